//! Stages for lines of text.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;

use crate::prelude::*;
use crate::product::{Overwrite, PendingProduct, StepProduct};

/// The lines that are emitted per call.
const BATCH: usize = 64;

/// Sends the lines of a text file in order, without their line endings.
///
/// The file must be UTF-8; a line that is not ends the production with a failure.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lines {
    /// The file to read.
    file: PathBuf,
    #[serde(skip)]
    reader: Option<BufReader<File>>,
    #[serde(skip)]
    line: u64,
}

impl Producer for Lines {
    type Out = String;

    fn init(&mut self, _: &Context) -> Result<()> {
        let file = File::open(&self.file)
            .with_context(|| format!("{} cannot be opened", self.file.display()))?;
        self.reader = Some(BufReader::new(file));
        Ok(())
    }

    fn next(&mut self, out: &mut Emitter<'_, String>) -> Result<Next> {
        let Some(reader) = &mut self.reader else { return Ok(Next::Done) };
        for _ in 0..BATCH {
            let mut line = String::new();
            let read = reader.read_line(&mut line).with_context(|| {
                format!("{}, line {} cannot be read", self.file.display(), self.line + 1)
            })?;
            if read == 0 {
                return Ok(Next::Done);
            }
            self.line += 1;
            line.truncate(line.trim_end_matches(['\r', '\n']).len());
            out.send(line)?;
        }
        Ok(Next::More)
    }
}

/// Sends the words of each text one by one; white space separates them.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Words {}

impl Stage for Words {
    type In = String;
    type Out = String;

    fn run(&mut self, text: String, out: &mut Emitter<'_, String>) -> Result<()> {
        text.split_whitespace().try_for_each(|word| out.send(word.to_owned()))
    }
}

/// Converts each text to upper case.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Uppercase {}

impl Stage for Uppercase {
    type In = String;
    type Out = String;

    fn run(&mut self, text: String, out: &mut Emitter<'_, String>) -> Result<()> {
        out.send(text.to_uppercase())
    }
}

/// Writes each text as a line of a file.
///
/// The lines are in the order of arrival, or sorted. The file appears whole at the end of the run,
/// or not at all. It replaces one that an earlier run of this pipeline made and nobody has changed
/// since, but no other (see "overwrite"); a hidden file beside it records that: `.out.txt.drpipe`
/// for `out.txt`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteLines {
    /// The file to write; its directory is made if it is missing.
    #[schemars(extend("writes" = "file"))]
    file: PathBuf,
    /// What happens to an older file of that name.
    #[serde(default)]
    overwrite: Overwrite,
    /// Whether to sort the lines, so that the file does not depend on the order
    /// of arrival. Keeps all of them in memory until the end.
    #[serde(default)]
    sorted: bool,
    #[serde(skip)]
    pending: Option<PendingProduct>,
    #[serde(skip)]
    lines: Vec<String>,
}

impl Consumer for WriteLines {
    type In = String;
    const SINGLETON: bool = true;
    const STATEFUL: bool = true;

    fn init(&mut self, context: &Context) -> Result<()> {
        let product = StepProduct::open(&self.file, self.overwrite, context)?.with_record();
        self.pending = Some(product.begin()?);
        Ok(())
    }

    fn run(&mut self, text: String) -> Result<()> {
        if self.sorted {
            self.lines.push(text);
            return Ok(());
        }
        let Some(pending) = &mut self.pending else { return Err(not_begun()) };
        // Part of the line may be written already: another attempt would double it.
        writeln!(pending, "{text}").map_err(|error| {
            Failure::permanent(format!("cannot write {}: {error}", self.file.display()))
        })
    }

    fn finish(&mut self) -> Result<()> {
        let mut pending = self.pending.take().ok_or_else(not_begun)?;
        self.lines.sort_unstable();
        for line in &self.lines {
            writeln!(pending, "{line}")
                .with_context(|| format!("cannot write {}", self.file.display()))?;
        }
        pending.commit().map(drop)
    }
}

fn not_begun() -> Failure {
    Failure::permanent("WriteLines was used without init or after finish")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::testing::{TestBench, consume, from_params, produce, run};

    #[test]
    fn lines_come_without_their_ends() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, "one\r\n\n  two \nlast").unwrap();
        let lines = produce(from_params::<Lines>(json!({ "file": file.path() })).unwrap()).unwrap();
        assert_eq!(lines.into_values(), ["one", "", "  two ", "last"]);
    }

    #[test]
    fn a_line_that_is_not_text_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, b"good\nbad \xff\n").unwrap();
        let error =
            produce(from_params::<Lines>(json!({ "file": file.path() })).unwrap()).unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
    }

    #[test]
    fn words_are_split_at_white_space() {
        let words = run(Words {}, [" a  b\tc ".to_owned()]).unwrap();
        assert_eq!(words.into_values(), ["a", "b", "c"]);
        let upper = run(Uppercase {}, ["straße".to_owned()]).unwrap();
        assert_eq!(upper.outputs[0].1, "STRASSE");
    }

    #[test]
    fn the_file_appears_at_the_end_and_sorted_on_request() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("new/out.txt");
        for (sorted, text) in [(false, "b\na\n"), (true, "a\nb\n")] {
            let stage: WriteLines = from_params(json!({ "file": file, "sorted": sorted })).unwrap();
            consume(stage, ["b".to_owned(), "a".to_owned()]).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
        }
    }

    #[test]
    fn a_run_that_stops_leaves_no_file() {
        let directory = tempfile::tempdir().unwrap();
        let mut stage: WriteLines =
            from_params(json!({ "file": directory.path().join("out.txt") })).unwrap();
        stage.init(TestBench::new().context()).unwrap();
        stage.run("half".to_owned()).unwrap();
        drop(stage);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
