//! Reads the members of an object by the keys that it may have, and reports all that is
//! wrong with them.

use serde_json::Value;

use super::text::{Member, Node};
use crate::base::nearest::nearest;
use crate::plan::diagnostic::{did_you_mean, quote, show};
use crate::plan::findings::Findings;
use crate::plan::keys::Key;
use crate::plan::span::SourceSpan;

/// Finds a key by its name.
pub(crate) fn find(keys: &[&'static Key], name: &str) -> Option<&'static Key> {
    keys.iter().find(|key| key.name == name).copied()
}

/// Reads an object: `set` gets each member that has one of the `keys`, and says whether its
/// value is allowed; `other` gets each member that has none. Of members with the same key the
/// first whose value is allowed counts.
pub(crate) fn read<'d>(
    object: &'d Node,
    keys: &[&'static Key],
    findings: &mut Findings,
    mut set: impl FnMut(&'static Key, &Value, SourceSpan) -> bool,
    mut other: impl FnMut(&'d Member, &mut Findings),
) {
    let mut done: Vec<&str> = Vec::new();
    for member in object.members() {
        let Some(key) = find(keys, &member.key) else {
            other(member, findings);
            continue;
        };
        let (value, span) = (member.value.to_value(), SourceSpan::File(member.value.offset));
        let is_allowed = match done.contains(&key.name) {
            true => (key.allows)(&value),
            false => set(key, &value, span.clone()),
        };
        match is_allowed {
            true => done.push(key.name),
            false => wrong_value(key, &value, &span, findings),
        }
    }
}

/// Reports that a key's value is not allowed.
pub(crate) fn wrong_value(key: &Key, value: &Value, span: &SourceSpan, findings: &mut Findings) {
    let mut message = format!("found {}; expected {}", show(value), key.expected);
    if !matches!(span, SourceSpan::File(_)) {
        message = format!("{}: {message}", quote(key.name)); // in the file, the path says it
    }
    findings.error(span, message, (key.hint)(value));
}

/// Reports that a key is not one of the `keys`; `others` are further names that the user may have
/// meant.
pub(crate) fn unknown_key<'a>(
    member: &Member,
    keys: &[&'static Key],
    others: impl IntoIterator<Item = &'a str>,
    findings: &mut Findings,
) {
    let names = || keys.iter().map(|key| key.name);
    let message = format!(
        "unknown key {}; expected one of {}",
        quote(&member.key),
        names().collect::<Vec<_>>().join(", ")
    );
    let near = nearest(&member.key, names().chain(others));
    findings.error(&SourceSpan::File(member.offset), message, did_you_mean(near));
}
