//! Small stages, and assertions about checks.
#![expect(dead_code, reason = "only serde reads the parameters")]

use drpipe::config::{Describe, Diagnostic, Loaded, Setting, load_with};
use drpipe::plan::Plan;
use drpipe::prelude::*;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Count {
    #[serde(default)]
    pub last: i64,
}

impl Producer for Count {
    type Out = i64;
    fn next(&mut self, _: &mut Emitter<'_, i64>) -> Result<Next> {
        Ok(Next::Done)
    }
}

/// Speed or exactness.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The fast way.
    Fast,
    /// The exact way.
    Exact,
}

#[derive(Deserialize, JsonSchema)]
pub struct Window {
    pub width: u8,
}

/// Has no `deny_unknown_fields`.
#[derive(Deserialize, JsonSchema)]
pub struct Clean {
    pub threshold: f64,
    pub label: Option<String>,
    pub mode: Option<Mode>,
    pub passes: Option<u32>,
    pub window: Option<Window>,
}

impl Stage for Clean {
    type In = i64;
    type Out = i64;
    fn validate(&self) -> Result<()> {
        match self.threshold {
            t if t < 0.0 => {
                Err(Failure::permanent(format!("threshold is {t}, expected 0 or more")))
            }
            _ => Ok(()),
        }
    }
    fn run(&mut self, input: i64, out: &mut Emitter<'_, i64>) -> Result<()> {
        out.send(input)
    }
}

#[derive(Deserialize, JsonSchema)]
pub struct Pass {}

impl Stage for Pass {
    type In = i64;
    type Out = i64;
    fn run(&mut self, input: i64, out: &mut Emitter<'_, i64>) -> Result<()> {
        out.send(input)
    }
}

#[derive(Deserialize, JsonSchema)]
pub struct Print {}

impl Stage for Print {
    type In = i64;
    type Out = String;
    fn run(&mut self, input: i64, out: &mut Emitter<'_, String>) -> Result<()> {
        out.send(input.to_string())
    }
}

#[derive(Deserialize, JsonSchema)]
pub struct Relay {}

impl Stage for Relay {
    type In = Any;
    type Out = Any;
    const SINGLETON: bool = true;
    fn run(&mut self, input: Any, out: &mut Emitter<'_, Any>) -> Result<()> {
        out.send(input)
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sum {}

impl Consumer for Sum {
    type In = i64;
    fn run(&mut self, _: i64) -> Result<()> {
        Ok(())
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StringWriter {
    pub filename: String,
}

impl Consumer for StringWriter {
    type In = String;
    fn run(&mut self, _: String) -> Result<()> {
        Ok(())
    }
}

/// Sends every message to the step that a parameter names.
#[derive(Deserialize, JsonSchema)]
pub struct Switch {
    pub to: String,
}

impl Stage for Switch {
    type In = i64;
    type Out = i64;
    fn validate_in(&self, context: &Context) -> Result<()> {
        context.expect_next_step("to", &self.to)
    }
    fn run(&mut self, input: i64, out: &mut Emitter<'_, i64>) -> Result<()> {
        out.send_to(&self.to, input)
    }
}

pub fn registry() -> Registry {
    let mut registry = Registry::new();
    registry.producer::<Count>("Count");
    registry.stage::<Clean>("Clean");
    registry.stage::<Pass>("Pass");
    registry.stage::<Print>("Print");
    registry.stage::<Relay>("Relay");
    registry.stage::<Switch>("Switch");
    registry.consumer::<Sum>("Sum");
    registry.consumer::<StringWriter>("StringWriter");
    registry
}

pub fn check(text: &str, settings: &[&str]) -> std::result::Result<Loaded, Vec<Diagnostic>> {
    check_with(text, settings, &mut |_| Vec::new())
}

pub fn check_with(
    text: &str,
    settings: &[&str],
    describe: &mut Describe<'_>,
) -> std::result::Result<Loaded, Vec<Diagnostic>> {
    let settings: Vec<Setting> = settings.iter().map(|s| Setting::parse(s).unwrap()).collect();
    load_with(text, "p.json", &registry(), &settings, describe).map_err(|error| error.diagnostics)
}

/// The plan of a good file, and its warnings.
pub fn good(text: &str) -> (Plan, Vec<String>) {
    good_with(text, &[])
}

pub fn good_with(text: &str, settings: &[&str]) -> (Plan, Vec<String>) {
    match check(text, settings) {
        Ok(loaded) => (loaded.plan, loaded.warnings.iter().map(ToString::to_string).collect()),
        Err(diagnostics) => panic!("{}", lines(&diagnostics).join("\n")),
    }
}

/// The findings about a bad file.
pub fn bad(text: &str) -> Vec<String> {
    bad_with(text, &[])
}

pub fn bad_with(text: &str, settings: &[&str]) -> Vec<String> {
    match check(text, settings) {
        Ok(_) => panic!("expected errors"),
        Err(diagnostics) => lines(&diagnostics),
    }
}

pub fn lines(diagnostics: &[Diagnostic]) -> Vec<String> {
    diagnostics.iter().map(ToString::to_string).collect()
}

/// `p.json:line:column` of the first `mark` in the text.
pub fn at(text: &str, mark: &str) -> String {
    let offset = text.find(mark).unwrap_or_else(|| panic!("no {mark} in the text"));
    let before = &text[..offset];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap().chars().count() + 1;
    format!("p.json:{line}:{column}")
}

/// Asserts that the file has one error, at the mark, whose line has all of `parts`.
pub fn one(text: &str, mark: &str, parts: &[&str]) {
    let found = bad(text);
    assert_eq!(found.len(), 1, "{}", found.join("\n"));
    says(&found, &format!("{}: error: ", at(text, mark)), parts);
}

/// Asserts that one of the lines begins with `start` and has all of `parts`.
pub fn says(lines: &[String], start: &str, parts: &[&str]) {
    let fits =
        |line: &&String| line.starts_with(start) && parts.iter().all(|part| line.contains(part));
    assert!(
        lines.iter().any(|line| fits(&line)),
        "{start} {parts:?}\nnot in\n{}",
        lines.join("\n")
    );
}

/// A file with these stagers, given as JSON objects.
pub fn with_stagers(stagers: &str) -> String {
    format!(
        "{{\n\"producer\": {{\"name\": \"IN\", \"class\": \"Count\"}},\n\"stagers\": \
         [{stagers}],\n\"consumer\": {{\"name\": \"OUT\", \"class\": \"Sum\"}}}}"
    )
}

/// A file with one stager `A` of class `Pass` that has this member too.
pub fn with_key(member: &str) -> String {
    with_stagers(&format!("\n  {{\"name\": \"A\", \"class\": \"Pass\", {member}}}\n"))
}

pub fn names(plan: &Plan) -> Vec<&str> {
    plan.steps.iter().map(|step| step.name.as_str()).collect()
}
