//! What is wrong with a value, in the terms of the language that sent it.

use std::fmt;

use serde::de::{self, Expected, Unexpected};

use super::show;
use super::token::Malformed;

/// A place in a value and what is wrong there. Each enclosing value adds its part of the path.
#[derive(Debug)]
pub(super) struct Error(Box<Wrong>);

#[derive(Debug)]
struct Wrong {
    /// The innermost part first.
    path: Vec<Part>,
    what: What,
}

#[derive(Debug)]
enum Part {
    Key(String),
    Index(usize),
}

#[derive(Debug)]
enum What {
    Said(String),
    /// A value of another kind; described once its first bytes are known.
    Other {
        found: Option<String>,
        expected: String,
    },
}

impl Error {
    fn new(what: What) -> Self {
        Self(Box::new(Wrong { path: Vec::new(), what }))
    }

    pub(super) fn broken(what: &str) -> Self {
        Self::new(What::Said(what.to_owned()))
    }

    pub(super) fn expected(expected: &dyn Expected) -> Self {
        Self::new(What::Other { found: None, expected: in_words(&expected.to_string()) })
    }

    /// Describes the value that is wrong by its first bytes, unless it is described already.
    pub(super) fn at(mut self, bytes: &[u8]) -> Self {
        if let What::Other { found: found @ None, .. } = &mut self.0.what {
            *found = Some(show::describe(bytes));
        }
        self
    }

    pub(super) fn in_key(mut self, key: String) -> Self {
        self.0.path.push(Part::Key(key));
        self
    }

    pub(super) fn in_element(mut self, index: usize) -> Self {
        self.0.path.push(Part::Index(index));
        self
    }
}

/// Translates serde's name of an expected type into terms of other languages.
fn in_words(expected: &str) -> String {
    match expected {
        "i8" | "i16" | "i32" | "i64" | "i128" | "u8" | "u16" | "u32" | "u64" | "u128" | "isize"
        | "usize" => format!("an integer ({expected})"),
        "f32" | "f64" => "a number".to_owned(),
        "a string" => "a text".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "unit" => "nil".to_owned(),
        _ => match expected.split_once(' ') {
            Some(("struct", name)) => format!("a map with the fields of {name}"),
            Some(("enum", name)) => format!("a variant of {name}"),
            _ => expected.replace("a tuple of size", "a list of"),
        },
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, part) in self.0.path.iter().rev().enumerate() {
            match part {
                Part::Key(key) if place == 0 => write!(f, "{key}")?,
                Part::Key(key) => write!(f, ".{key}")?,
                Part::Index(index) => write!(f, "[{index}]")?,
            }
        }
        if !self.0.path.is_empty() {
            f.write_str(": ")?;
        }
        match &self.0.what {
            What::Said(text) => f.write_str(text),
            What::Other { found, expected } => {
                let found = found.as_deref().unwrap_or("another value");
                write!(f, "{found} where {expected} is expected")
            }
        }
    }
}

impl From<Malformed> for Error {
    fn from(Malformed(what): Malformed) -> Self {
        Self::broken(what)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(What::Said(message.to_string()))
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::expected(expected)
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::expected(expected)
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        Self::expected(expected)
    }
}
