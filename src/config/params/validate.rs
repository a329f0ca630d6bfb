//! Checks parameters against the JSON Schema of their class, and explains the errors in words.

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::paths::LocationSegment;
use serde_json::Value;

use super::declared::collect;
use super::fault::Fault;
use super::strict::closed;
use crate::base::nearest::nearest;
use crate::plan::diagnostic::{did_you_mean, quote, show};

/// Returns all faults of the parameters.
pub(crate) fn faults(schema: &Value, params: &Value) -> Vec<Fault> {
    let schema = closed(schema);
    let Ok(validator) = jsonschema::validator_for(&schema) else {
        return Vec::new(); // a schema in error is found when the class is built
    };
    let mut faults = Vec::new();
    for error in validator.iter_errors(params) {
        explain(&error, &schema, &mut faults);
    }
    faults
}

fn explain(error: &ValidationError<'_>, schema: &Value, faults: &mut Vec<Fault>) {
    let path: Vec<String> = error.instance_path().iter().map(segment).collect();
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            let known = known_at(error, schema);
            faults.extend(unexpected.iter().map(|name| Fault {
                path: path.iter().chain([name]).cloned().collect(),
                message: String::new(),
                hint: String::new(),
                known: Some(known.clone()),
            }));
        }
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
            alternatives(error, context, path, schema, faults);
        }
        kind => {
            let (message, hint) = words(error, kind);
            faults.push(Fault { path, message, hint, known: None });
        }
    }
}

fn segment(segment: LocationSegment<'_>) -> String {
    match segment {
        LocationSegment::Property(name) => name.into_owned(),
        LocationSegment::Index(index) => index.to_string(),
    }
}

/// Returns the names that the schema knows at the place of the error.
fn known_at(error: &ValidationError<'_>, schema: &Value) -> Vec<String> {
    let keyword = error.schema_path().as_str();
    let parent = keyword.rsplit_once('/').map_or("", |(parent, _)| parent);
    let mut names = Vec::new();
    collect(schema.pointer(parent).unwrap_or(schema), schema, 0, &mut names);
    names
}

/// Explains that no alternative matches. If one of them matches except for a part inside, reports
/// that part; otherwise lists all alternatives.
fn alternatives(
    error: &ValidationError<'_>,
    context: &[Vec<ValidationError<'static>>],
    path: Vec<String>,
    schema: &Value,
    faults: &mut Vec<Fault>,
) {
    let here = error.instance_path().as_str();
    let refused = |error: &ValidationError<'_>| {
        error.instance_path().as_str() == here
            && matches!(
                error.kind(),
                ValidationErrorKind::Type { .. }
                    | ValidationErrorKind::Constant { .. }
                    | ValidationErrorKind::Enum { .. }
            )
    };
    let mut near = context.iter().filter(|errors| !errors.iter().any(refused));
    if let (Some(errors), None) = (near.next(), near.next()) {
        for error in errors {
            explain(error, schema, faults);
        }
        return;
    }
    let mut options = Vec::new();
    let mut types = Vec::new();
    for branch in context {
        let before = options.len();
        for error in branch {
            match error.kind() {
                ValidationErrorKind::Constant { expected_value } => {
                    options.push(expected_value.as_ref().clone());
                }
                ValidationErrorKind::Enum { options: more } => {
                    options.extend(more.as_array().into_iter().flatten().cloned());
                }
                _ => {}
            }
        }
        if options.len() == before {
            types.extend(branch.iter().flat_map(|error| match error.kind() {
                ValidationErrorKind::Type { kind } => type_words(kind),
                _ => Vec::new(),
            }));
        }
    }
    let found = error.instance();
    let mut expected: Vec<String> = options.iter().map(show).collect();
    expected.extend(types.into_iter().filter(|word| *word != "null").map(str::to_owned));
    expected.dedup();
    let message = match expected.as_slice() {
        [] => format!("found {}, which matches none of the alternatives", show(found)),
        expected => format!("found {}; expected {}", show(found), expected.join(" or ")),
    };
    faults.push(Fault { path, message, hint: nearest_option(found, &options), known: None });
}

fn nearest_option(found: &Value, options: &[Value]) -> String {
    let texts = options.iter().filter_map(Value::as_str);
    did_you_mean(found.as_str().and_then(|found| nearest(found, texts)))
}

fn type_words(kind: &TypeKind) -> Vec<&'static str> {
    let names: Vec<&str> = match kind {
        TypeKind::Single(name) => vec![name.as_str()],
        TypeKind::Multiple(names) => names.iter().map(|name| name.as_str()).collect(),
    };
    names.into_iter().map(type_word).collect()
}

fn type_word(name: &'static str) -> &'static str {
    match name {
        "integer" => "a whole number",
        "number" => "a number",
        "string" => "a string in double quotes",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "an object",
        other => other,
    }
}

/// Returns what was found and what was expected, and the nearest name as a hint.
fn words(error: &ValidationError<'_>, kind: &ValidationErrorKind) -> (String, String) {
    use ValidationErrorKind as K;
    let value = error.instance();
    let found = show(value);
    let expected = match kind {
        K::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            let message = format!("the required parameter {} is missing", quote(name));
            return (message, format!("add {}: ...", quote(name)));
        }
        K::Type { kind } => {
            let mut words = type_words(kind);
            if words.len() > 1 {
                words.retain(|word| *word != "null");
            }
            words.join(" or ")
        }
        K::Enum { options } => {
            let options = options.as_array().map_or(&[][..], Vec::as_slice);
            let list: Vec<String> = options.iter().map(show).collect();
            let message = format!("found {found}; expected one of {}", list.join(", "));
            return (message, nearest_option(value, options));
        }
        K::Constant { expected_value } => show(expected_value),
        K::Minimum { limit } => format!("{limit} or more"),
        K::Maximum { limit } => format!("{limit} or less"),
        K::ExclusiveMinimum { limit } => format!("more than {limit}"),
        K::ExclusiveMaximum { limit } => format!("less than {limit}"),
        K::MinLength { limit } => format!("{limit} or more characters"),
        K::MaxLength { limit } => format!("{limit} or fewer characters"),
        K::MinItems { limit } => format!("{limit} or more items"),
        K::MaxItems { limit } => format!("{limit} or fewer items"),
        K::Pattern { pattern } => format!("a string of the form {pattern}"),
        _ => return (error.to_string(), String::new()),
    };
    (format!("found {found}; expected {expected}"), String::new())
}

#[cfg(test)]
mod tests {
    #![expect(dead_code, reason = "only the schemas of these types are used")]

    use schemars::JsonSchema;
    use serde::Deserialize;
    use serde_json::json;

    use super::*;
    use crate::config::params::declared::only_text;

    /// Alternatives with documentation become `oneOf`.
    #[derive(Deserialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    enum Mode {
        /// One.
        Fast,
        /// Two.
        Exact,
    }

    #[derive(Deserialize, JsonSchema)]
    struct Sample {
        mode: Mode,
        count: Option<u8>,
        path: Option<String>,
        inner: Option<Inner>,
        sizes: Vec<f64>,
    }

    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        width: u32,
    }

    fn check(params: Value) -> Vec<String> {
        let schema = schemars::schema_for!(Sample).to_value();
        let line = |fault: Fault| {
            let known = fault.known.map(|known| format!("known: {}", known.join(" ")));
            [fault.path.join("."), fault.message, fault.hint, known.unwrap_or_default()].join("|")
        };
        faults(&schema, &params).into_iter().map(line).collect()
    }

    #[test]
    fn good_parameters_have_no_faults() {
        assert!(check(json!({"mode": "fast", "sizes": []})).is_empty());
    }

    #[test]
    fn faults_say_found_and_expected() {
        let found = check(json!({"mode": "fsat", "count": 256, "sizes": [1, "a"], "cuont": 1,
                                 "inner": {"widht": 1, "width": true}}));
        let expected = [
            "mode|found \"fsat\"; expected \"fast\" or \"exact\"|did you mean \"fast\"?|",
            "count|found 256; expected 255 or less||",
            "sizes.1|found \"a\"; expected a number||",
            "cuont|||known: mode count path inner sizes",
            "inner.widht|||known: width",
            "inner.width|found true; expected a whole number||",
        ];
        for line in expected {
            assert!(found.iter().any(|found| found == line), "{line}\nin {found:#?}");
        }
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        let found = check(json!({"sizes": 1}));
        assert!(found.iter().any(|line| line.contains("\"mode\" is missing")), "{found:?}");
    }

    #[test]
    fn texts_are_told_from_other_types() {
        let schema = schemars::schema_for!(Sample).to_value();
        let only = |param| only_text(&schema, param);
        assert!(only("mode") && only("path"));
        assert!(!only("count") && !only("sizes") && !only("inner") && !only("other"));
    }
}
