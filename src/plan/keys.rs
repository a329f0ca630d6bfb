//! What a key of a configuration is, and [`keys!`], which declares each key once.

use std::ops::Deref;

use serde_json::{Value, json};

use super::span::SourceSpan;

/// The value of a key, and where it was set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Set<T> {
    /// The value: what was set, or else the key's default.
    pub value: T,
    /// None for a default.
    pub(crate) span: Option<SourceSpan>,
}

impl<T> Deref for Set<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Set<T> {
    /// The value if it was set.
    pub(crate) fn given(&self) -> Option<&T> {
        self.span.as_ref().map(|_| &self.value)
    }
}

/// The form that the value of a key has in a configuration.
pub(crate) trait Form {
    /// What the program works with.
    type Value: serde::Serialize;
    /// What the value must be, after "expected".
    const EXPECTED: &'static str;

    /// The JSON Schema of what is allowed.
    fn schema() -> Value;

    /// The schema as it is published, where that refers to other definitions.
    fn published() -> Value {
        Self::schema()
    }

    /// Reads JSON that the schema allows; `None` if it breaks a rule that a schema cannot express.
    fn read(json: &Value) -> Option<Self::Value>;

    /// Writes the value as a configuration would have it.
    fn write(value: &Self::Value) -> Value {
        serde_json::to_value(value).unwrap_or_default()
    }

    /// Suggests what to do about a value that is not allowed.
    fn hint(_found: &Value) -> String {
        String::new()
    }
}

/// Facts about a key that the checks, the hashes, and the documentation read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tag {
    /// The key must be there.
    Required,
    /// Products depend on the key: another value means that all work is done again.
    Products,
    /// The key is about incoming messages, which a producer does not have.
    Inputs,
    /// The key needs workers in processes.
    Processes,
    /// The key is about classes in Python.
    Python,
    /// The command line cannot set the key.
    FileOnly,
    /// The key is accepted and has no effect.
    Ignored,
}

/// One declared key.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    /// The lines of its documentation.
    pub(crate) doc: &'static [&'static str],
    pub(crate) expected: &'static str,
    pub(crate) tags: &'static [Tag],
    pub(crate) published: fn() -> Value,
    pub(crate) default: Option<fn() -> Value>,
    /// Whether the form allows a value.
    pub(crate) allows: fn(&Value) -> bool,
    pub(crate) hint: fn(&Value) -> String,
}

impl Key {
    pub(crate) fn is(&self, tag: Tag) -> bool {
        self.tags.contains(&tag)
    }

    /// What the key is for: the first paragraph of its documentation.
    pub(crate) fn about(&self) -> String {
        let lines = self.doc.iter().take_while(|line| !line.is_empty());
        lines.map(|line| line.trim()).collect::<Vec<_>>().join(" ")
    }

    /// The schema with default and description. The default stands before alternatives,
    /// where it would be overlooked after them.
    pub(crate) fn schema(&self) -> Value {
        let mut schema = (self.published)();
        let Some(members) = schema.as_object_mut() else { return schema };
        if let Some(default) = self.default {
            let at = if members.contains_key("anyOf") { 0 } else { members.len() };
            members.shift_insert(at, "default".to_owned(), default());
        }
        members.insert("description".to_owned(), json!(self.about()));
        schema
    }
}

/// Options that are read and written by the names of their keys.
pub(crate) trait Options: Default + 'static {
    /// The keys in the order of their declaration.
    const KEYS: &'static [Key];

    /// Sets a key; false if there is no such key or its form does not allow the value.
    fn set(&mut self, name: &str, json: &Value, span: SourceSpan) -> bool;

    /// Where the key was set; `None` for a default or an unknown key.
    fn span(&self, name: &str) -> Option<&SourceSpan>;

    /// The value of each key, in the order of their declaration.
    fn values(&self) -> Vec<(&'static Key, Value)>;
}

/// Reads a value: its schema must allow it.
pub(crate) fn read<F: Form>(json: &Value) -> Option<F::Value> {
    if is_valid(&F::schema(), json) { F::read(json) } else { None }
}

#[cfg(feature = "config")]
fn is_valid(schema: &Value, json: &Value) -> bool {
    jsonschema::validator_for(schema).is_ok_and(|validator| validator.is_valid(json))
}

/// A build without configurations has no values to read.
#[cfg(not(feature = "config"))]
fn is_valid(_: &Value, _: &Value) -> bool {
    false
}

/// Declares a struct of options: for each key its documentation, its field (the name in a
/// configuration only if it differs), the field's type, the [`Form`] of its value, its
/// [`Tag`]s, and its default.
///
/// ```text
/// keys! {
///     /// How a step runs.
///     pub struct StepOptions {
///         /// The most messages that wait for the step.
///         queue_limit: Option<usize> as MessageLimit [Inputs] = Some(1024),
///     }
/// }
/// ```
///
/// The first paragraph of the documentation is the description in the published schema; the
/// reference in docs/ has the others too. A field whose type is not its form's, or whose
/// default is not of its type, does not compile.
macro_rules! keys {
    (
        $(#[$about:meta])*
        $visible:vis struct $Options:ident {
            $(
                $(#[doc = $doc:literal])+
                $field:ident $(($name:literal))? : $Type:ty as $Form:ty
                    $([$($tag:ident),+])? $(= $default:expr)?
            ),+ $(,)?
        }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone)]
        $visible struct $Options {
            $($(#[doc = $doc])+ pub $field: $crate::plan::keys::Set<$Type>,)+
        }

        impl Default for $Options {
            fn default() -> Self {
                Self {
                    $($field: $crate::plan::keys::Set {
                        value: keys!(@default $($default)?),
                        span: None,
                    },)+
                }
            }
        }

        impl $crate::plan::keys::Options for $Options {
            const KEYS: &'static [$crate::plan::keys::Key] = &[$($crate::plan::keys::Key {
                name: keys!(@name $field $($name)?),
                doc: &[$($doc),+],
                expected: <$Form as $crate::plan::keys::Form>::EXPECTED,
                tags: &[$($($crate::plan::keys::Tag::$tag),+)?],
                published: <$Form as $crate::plan::keys::Form>::published,
                default: keys!(@shown $Form $(, $default)?),
                allows: |json| $crate::plan::keys::read::<$Form>(json).is_some(),
                hint: <$Form as $crate::plan::keys::Form>::hint,
            }),+];

            fn set(
                &mut self,
                name: &str,
                json: &serde_json::Value,
                span: $crate::plan::span::SourceSpan,
            ) -> bool {
                $(if name == keys!(@name $field $($name)?) {
                    let read = $crate::plan::keys::read::<$Form>(json);
                    let set = |value| $crate::plan::keys::Set { value, span: Some(span) };
                    return read.map(|value| self.$field = set(value)).is_some();
                })+
                false
            }

            fn span(&self, name: &str) -> Option<&$crate::plan::span::SourceSpan> {
                $(if name == keys!(@name $field $($name)?) {
                    return self.$field.span.as_ref();
                })+
                None
            }

            fn values(&self) -> Vec<(&'static $crate::plan::keys::Key, serde_json::Value)> {
                let values = [
                    $(<$Form as $crate::plan::keys::Form>::write(&self.$field.value)),+
                ];
                Self::KEYS.iter().zip(values).collect()
            }
        }
    };
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $name:literal) => { $name };
    (@default) => { Default::default() };
    (@default $default:expr) => { $default };
    (@shown $Form:ty) => { None };
    (@shown $Form:ty, $default:expr) => {
        Some(|| <$Form as $crate::plan::keys::Form>::write(&$default))
    };
}
pub(crate) use keys;
