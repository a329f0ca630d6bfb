//! Removes secrets from the command and the configuration of a run, because other users may read
//! them in its events, reports and journals.

use serde_json::Value;

/// Stands in the place of a secret.
const HIDDEN: &str = "[hidden]";
/// The ends of the names of secrets.
const NAMES: [&str; 4] = ["token", "password", "passwd", "secret"];

/// The arguments without secrets.
pub(crate) fn command(args: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut is_value = false;
    let one = |arg: String| {
        if std::mem::replace(&mut is_value, arg.starts_with("--") && is_secret(&arg)) {
            return HIDDEN.to_owned();
        }
        without_secrets(&arg)
    };
    args.into_iter().map(one).collect()
}

/// The configuration without secrets.
pub(crate) fn configuration(mut config: Value) -> Value {
    hide(&mut config);
    config
}

fn hide(value: &mut Value) {
    match value {
        Value::Object(members) => members.iter_mut().for_each(|(name, value)| match value {
            Value::String(text) if is_secret(name) => *text = HIDDEN.to_owned(),
            value => hide(value),
        }),
        Value::Array(items) => items.iter_mut().for_each(hide),
        _ => {}
    }
}

/// Hides the value of a setting whose name is that of a secret, and the secrets in a URL.
fn without_secrets(text: &str) -> String {
    if let Some((start, rest)) = text.split_once("://") {
        return format!("{start}://{}", without_secrets_of_address(rest));
    }
    match text.split_once('=') {
        Some((name, _)) if is_secret(name) => format!("{name}={HIDDEN}"),
        // `--set=NAME.KEY=VALUE`
        Some((option, setting)) if option.starts_with("--") => {
            format!("{option}={}", without_secrets(setting))
        }
        _ => text.to_owned(),
    }
}

fn without_secrets_of_address(rest: &str) -> String {
    let (place, query) = rest.split_once('?').map_or((rest, None), |(p, q)| (p, Some(q)));
    let (authority, path) = place.split_at(place.find('/').unwrap_or(place.len()));
    let place = match authority.rsplit_once('@') {
        Some((_, host)) => format!("{HIDDEN}@{host}{path}"),
        None => place.to_owned(),
    };
    let Some(query) = query else { return place };
    let part = |part: &str| match part.split_once('=') {
        Some((name, _)) if is_secret(name) => format!("{name}={HIDDEN}"),
        _ => part.to_owned(),
    };
    format!("{place}?{}", query.split('&').map(part).collect::<Vec<_>>().join("&"))
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    NAMES.iter().any(|ending| name.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_secret_is_recorded() {
        for (line, recorded) in [
            ("run --monitor-token S-1 -q", "run --monitor-token [hidden] -q"),
            ("run --monitor-token=S-1", "run --monitor-token=[hidden]"),
            ("run --set monitor_token=S-1", "run --set monitor_token=[hidden]"),
            (
                "run --set=A.password=x --A.api_token=y",
                "run --set=A.password=[hidden] --A.api_token=[hidden]",
            ),
            (
                "run --events http://u:p@h/a?b=1&token=x",
                "run --events http://[hidden]@h/a?b=1&token=[hidden]",
            ),
            ("run -c a.json --set A.key=1", "run -c a.json --set A.key=1"),
        ] {
            let args = line.split(' ').map(str::to_owned);
            assert_eq!(command(args).join(" "), recorded);
        }
        let config = json!({"S": {"params": {"api_token": "x", "tokens": ["y"], "token": 7}}});
        let recorded =
            json!({"S": {"params": {"api_token": "[hidden]", "tokens": ["y"], "token": 7}}});
        assert_eq!(configuration(config), recorded);
    }
}
