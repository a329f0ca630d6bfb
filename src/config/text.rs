//! JSON with positions: every node knows the offset of its first byte.
//!
//! serde_json returns each member as a slice of the text; the offset of the slice is the
//! member's position.

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::plan::diagnostic::quote;

/// The deepest nesting that is read: deeper text could overflow the stack.
const DEPTH: usize = 64;

/// A JSON value, and where it begins.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) offset: usize,
    pub(crate) tree: Tree,
}

#[derive(Debug)]
pub(crate) enum Tree {
    /// Neither a list nor an object.
    Scalar(Value),
    List(Vec<Node>),
    /// In the order of the file; a repeated key is there twice.
    Object(Vec<Member>),
}

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) key: String,
    pub(crate) offset: usize,
    pub(crate) value: Node,
}

/// A fault of the text as JSON.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) offset: usize,
    pub(crate) message: String,
    pub(crate) hint: String,
}

impl Node {
    /// The members of an object; empty for anything else.
    pub(crate) fn members(&self) -> &[Member] {
        match &self.tree {
            Tree::Object(members) => members,
            _ => &[],
        }
    }

    /// The items of a list; empty for anything else.
    pub(crate) fn items(&self) -> &[Node] {
        match &self.tree {
            Tree::List(items) => items,
            _ => &[],
        }
    }

    pub(crate) fn is_object(&self) -> bool {
        matches!(self.tree, Tree::Object(_))
    }

    /// The first member of this key.
    pub(crate) fn get(&self, key: &str) -> Option<&Member> {
        self.members().iter().find(|member| member.key == key)
    }

    /// The offset of the key that the names lead to.
    pub(crate) fn offset_of(&self, path: &[String]) -> Option<usize> {
        let (first, rest) = path.split_first()?;
        let member = self.get(first)?;
        if rest.is_empty() { Some(member.offset) } else { member.value.offset_of(rest) }
    }

    pub(crate) fn to_value(&self) -> Value {
        match &self.tree {
            Tree::Scalar(value) => value.clone(),
            Tree::List(items) => items.iter().map(Node::to_value).collect(),
            Tree::Object(members) => members
                .iter()
                .rev() // so that the first of two members of one key stays
                .map(|member| (member.key.clone(), member.value.to_value()))
                .collect(),
        }
    }

    /// The JSON path of the node at `offset`, such as `stagers[0].class`.
    pub(crate) fn path(&self, offset: usize) -> String {
        let mut path = String::new();
        self.descend(offset, &mut path);
        path
    }

    fn descend(&self, offset: usize, path: &mut String) {
        match &self.tree {
            Tree::Scalar(_) => {}
            Tree::List(items) => {
                let index = items.partition_point(|item| item.offset <= offset);
                if index > 0 {
                    path.push_str(&format!("[{}]", index - 1));
                    items[index - 1].descend(offset, path);
                }
            }
            Tree::Object(members) => {
                let index = members.partition_point(|member| member.offset <= offset);
                if index > 0 {
                    let member = &members[index - 1];
                    push_key(path, &member.key);
                    member.value.descend(offset, path);
                }
            }
        }
    }
}

fn push_key(path: &mut String, key: &str) {
    let plain = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    if key.is_empty() || !key.chars().all(plain) {
        path.push_str(&format!("[{}]", quote(key)));
    } else {
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(key);
    }
}

/// Returns the line and the column of a byte, both from 1; columns count characters.
pub(crate) fn line_column(text: &str, offset: usize) -> (usize, usize) {
    let bytes = &text.as_bytes()[..offset.min(text.len())];
    let line = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
    let start = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    // Bytes 10xxxxxx continue a character of UTF-8.
    let column = bytes[start..].iter().filter(|byte| **byte & 0xC0 != 0x80).count() + 1;
    (line, column)
}

/// Reads a text. Returns no node if it is not JSON at all.
pub(crate) fn parse(text: &str) -> (Option<Node>, Vec<Problem>) {
    if text.trim().is_empty() {
        let message = "the file is empty; expected a JSON object".to_owned();
        return (None, vec![Problem { offset: 0, message, hint: String::new() }]);
    }
    match serde_json::from_str::<&RawValue>(text) {
        Err(error) => (None, vec![syntax(text, &error)]),
        Ok(raw) => {
            let mut parser = Parser { text, problems: Vec::new() };
            let node = parser.node(raw.get(), 0);
            (Some(node), parser.problems)
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    problems: Vec<Problem>,
}

impl Parser<'_> {
    fn offset(&self, part: &str) -> usize {
        part.as_ptr() as usize - self.text.as_ptr() as usize
    }

    fn problem(&mut self, offset: usize, message: impl Into<String>, hint: &str) {
        self.problems.push(Problem { offset, message: message.into(), hint: hint.to_owned() });
    }

    fn node(&mut self, raw: &str, depth: usize) -> Node {
        let offset = self.offset(raw);
        let nested = raw.starts_with(['{', '[']);
        if nested && depth >= DEPTH {
            self.problem(offset, format!("nested more than {DEPTH} levels deep"), "");
            return Node { offset, tree: Tree::Scalar(Value::Null) };
        }
        let tree = if raw.starts_with('{') {
            serde_json::from_str(raw).map(|members| self.object(members, depth))
        } else if nested {
            serde_json::from_str::<Vec<&RawValue>>(raw).map(|items| {
                Tree::List(items.iter().map(|item| self.node(item.get(), depth + 1)).collect())
            })
        } else {
            serde_json::from_str(raw).map(Tree::Scalar)
        };
        let tree = tree.unwrap_or_else(|error| {
            self.problem(offset, bare(&error), "");
            Tree::Scalar(Value::Null)
        });
        Node { offset, tree }
    }

    fn object(&mut self, Members(raw): Members<'_>, depth: usize) -> Tree {
        let mut seen: HashMap<String, usize> = HashMap::new();
        let mut members = Vec::with_capacity(raw.len());
        for (raw_key, raw_value) in raw {
            let offset = self.offset(raw_key.get());
            let key = serde_json::from_str::<String>(raw_key.get()).unwrap_or_else(|error| {
                self.problem(offset, bare(&error), "");
                raw_key.get().to_owned()
            });
            if let Some(first) = seen.get(&key) {
                let (line, _) = line_column(self.text, *first);
                let message = format!("duplicate key {}", quote(&key));
                self.problem(offset, message, &format!("the first is on line {line}"));
            } else {
                seen.insert(key.clone(), offset);
            }
            members.push(Member { key, offset, value: self.node(raw_value.get(), depth + 1) });
        }
        Tree::Object(members)
    }
}

/// The members of an object, unread.
struct Members<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    members.push(entry);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// Returns serde_json's message without its position.
fn bare(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

fn syntax(text: &str, error: &serde_json::Error) -> Problem {
    let start = match error.line() {
        0 | 1 => 0,
        line => text.match_indices('\n').nth(line - 2).map_or(0, |(at, _)| at + 1),
    };
    let mut offset = (start + error.column().saturating_sub(1)).min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = text[..offset].trim_end();
    let rest = &text[offset..];
    let comma = before.ends_with(',') && rest.starts_with(['}', ']']);
    let hint = if comma {
        offset = before.len() - 1;
        "JSON allows no comma before a closing bracket: remove it"
    } else if let Some(other) = other_language(text) {
        return Problem { offset: 0, message: format!("not JSON, but {other}"), hint: HOW.into() };
    } else {
        syntax_hint(rest, error)
    };
    Problem { offset, message: format!("not JSON: {}", bare(error)), hint: hint.to_owned() }
}

/// How to use a file in another language.
const HOW: &str = "write it as JSON, or let a program do that: \
    python3 -c 'import json, sys, yaml; print(json.dumps(yaml.safe_load(sys.stdin)))' < FILE | \
    drpipe --config - (of TOML: tomllib.load(sys.stdin.buffer))";

/// Guesses the language of a text that does not begin as JSON does, by its first line that is
/// neither empty nor a comment.
fn other_language(text: &str) -> Option<&'static str> {
    let mut lines = text.lines().map(str::trim);
    let line = lines.find(|line| !line.is_empty() && !line.starts_with('#'))?;
    let is_word = |text: &str| {
        let text = text.trim().trim_matches('"');
        !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "_-. ".contains(c))
    };
    let is_table = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_table = is_table.map(|name| name.trim_matches(['[', ']']));
    if line.starts_with('{') {
        None
    } else if is_table.is_some_and(is_word) || line.split_once('=').is_some_and(|(k, _)| is_word(k))
    {
        Some("TOML, it seems")
    } else if line.starts_with("---")
        || line.starts_with("- ")
        || line.split_once(':').is_some_and(|(key, _)| is_word(key))
    {
        Some("YAML, it seems")
    } else {
        None
    }
}

fn syntax_hint(rest: &str, error: &serde_json::Error) -> &'static str {
    let word = rest.trim_start_matches(|c: char| !c.is_alphanumeric());
    let python = ["True", "False", "None", "NaN", "Infinity"];
    if error.is_eof() {
        "the file ends too early: a closing bracket or quote is missing"
    } else if rest.starts_with('\'') {
        "JSON strings use double quotes"
    } else if rest.starts_with('/') || rest.starts_with('#') {
        "JSON has no comments: remove it, or use the key \"description\""
    } else if rest.starts_with(|c: char| c.is_alphabetic())
        && python.iter().any(|name| word.starts_with(name))
    {
        "JSON has true, false and null, in lower case, and no NaN or Infinity"
    } else if bare(error).starts_with("key must be") {
        "keys need double quotes"
    } else if rest.starts_with('"') {
        "a comma or a colon is missing before it"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> (usize, usize, String) {
        let (_, problems) = parse(text);
        assert_eq!(problems.len(), 1, "{text}: {problems:?}");
        let (line, column) = line_column(text, problems[0].offset);
        (line, column, format!("{}; {}", problems[0].message, problems[0].hint))
    }

    #[test]
    fn nodes_know_where_they_are() {
        let text = "{ \"a\" : [1, {\"é\": \"x\", \"b\":true}] }";
        let (node, problems) = parse(text);
        assert!(problems.is_empty());
        let node = node.unwrap();
        let list = &node.get("a").unwrap().value;
        assert_eq!(list.offset, text.find('[').unwrap());
        assert_eq!(list.items()[0].offset, text.find('1').unwrap());
        let b = list.items()[1].get("b").unwrap();
        assert_eq!(b.offset, text.find("\"b\"").unwrap());
        assert_eq!(b.value.offset, text.find("true").unwrap());
        assert_eq!(node.path(b.offset), "a[1].b");
        assert_eq!(node.path(0), "");
        assert_eq!(line_column(text, b.offset), (1, text[..b.offset].chars().count() + 1));
        assert_eq!(node.to_value(), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn syntax_errors_say_what_to_do() {
        let cases = [
            ("{\n  \"a\": 1,\n}", (2, 9), "no comma before a closing"),
            ("{\"a\": [1, ]}", (1, 9), "no comma before a closing"),
            ("{'a': 1}", (1, 2), "double quotes"),
            ("{\n// note\n\"a\": 1}", (2, 1), "no comments"),
            ("{\n# note\n\"a\": 1}", (2, 1), "no comments"),
            ("{\"a\": True}", (1, 7), "lower case"),
            ("{a: 1}", (1, 2), "double quotes"),
            ("{\"a\": 1 \"b\": 2}", (1, 9), "missing before it"),
        ];
        for (text, (line, column), hint) in cases {
            let found = problem(text);
            assert_eq!((found.0, found.1), (line, column), "{text}: {}", found.2);
            assert!(found.2.contains(hint), "{text}: {}", found.2);
        }
        for (text, language) in [
            ("---\nproducer:\n  name: A\n", "YAML"),
            ("# mine\nproducer:\n  name: A\n", "YAML"),
            ("- name: A\n", "YAML"),
            ("version = 1\n[producer]\n", "TOML"),
            ("[producer]\nname = \"A\"\n", "TOML"),
            ("[[stagers]]\n", "TOML"),
        ] {
            let found = problem(text);
            let start = format!("not JSON, but {language}");
            assert!(found.2.starts_with(&start) && found.2.contains("--config -"), "{}", found.2);
        }
        assert!(!problem("[1, 2").2.contains("TOML") && !problem("hello").2.contains("YAML"));
        assert!(problem("{\"a\": 1").2.contains("ends too early"));
        assert!(problem(" \n\t").2.contains("empty"));
        assert!(problem("{} {}").2.contains("trailing characters"));
    }

    #[test]
    fn a_key_given_twice_is_a_problem_and_the_first_stands() {
        let text = "{\"a\": 1,\n \"a\": 2}";
        let found = problem(text);
        assert_eq!((found.0, found.1), (2, 2));
        assert!(found.2.contains("duplicate key \"a\"; the first is on line 1"));
        let (node, _) = parse(text);
        assert_eq!(node.unwrap().to_value()["a"], 1);
    }

    #[test]
    fn deep_nesting_is_a_problem_and_no_stack_overflow() {
        let text = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(problem(&text).2.contains("64 levels"));
    }

    #[test]
    fn what_only_shows_on_reading_has_a_position() {
        assert_eq!(problem("{\"a\": 1e999}").1, 7);
        assert_eq!(problem(r#"{"a": "\ud800"}"#).1, 7);
    }
}
