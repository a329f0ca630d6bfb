//! The ledger at the end of a run.

use crate::base::escape::{self, one_line};
use crate::base::format::duration;
use crate::event::{Report, StepReport, Verdict};
use crate::stage::registry::Kind;
use crate::status::bottleneck;

const HEADINGS: [&str; 11] = [
    "step", "workers", "received", "done", "filtered", "failed", "dropped", "deferred", "busy %",
    "mean", "p99",
];
/// The columns that are left out if they are 0 at every step.
const MAY_BE_EMPTY: [&str; 3] = ["filtered", "dropped", "deferred"];
/// The greatest width of the table, in characters: that of the usual terminal.
const WIDTH: usize = 80;
/// The fewest characters to which a step's name is cut.
const SHORTEST_NAME: usize = 8;

type Row = [String; 11];

/// The ledger as a table, and its conclusion.
pub(crate) fn text(report: &Report) -> String {
    let headings = HEADINGS.map(str::to_owned);
    let rows: Vec<Row> = std::iter::once(headings).chain(report.steps.iter().map(row)).collect();
    table(&rows) + &conclusion(report)
}

/// Formats rows of cells, the headings first. Columns are two spaces apart, or one if the table is
/// too wide; if that is not enough, names are cut.
fn table(rows: &[Row]) -> String {
    let is_shown = |column: &usize| {
        let empty = rows.iter().skip(1).all(|row| row[*column] == "0");
        !(empty && MAY_BE_EMPTY.contains(&HEADINGS[*column]))
    };
    let columns: Vec<usize> = (1..HEADINGS.len()).filter(is_shown).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = columns.iter().map(|column| width(*column).unwrap_or(0)).collect();
    let numbers = |gap: usize| widths.iter().map(|width| width + gap).sum::<usize>();
    let name = width(0).unwrap_or(0);
    let gap = if name + numbers(2) <= WIDTH { 2 } else { 1 };
    let name = name.min(WIDTH.saturating_sub(numbers(gap)).max(SHORTEST_NAME));
    let line = |row: &Row| {
        let mut line = format!("{:<name$}", shortened(&row[0], name));
        for (column, width) in columns.iter().zip(&widths) {
            line += &format!("{}{:>width$}", " ".repeat(gap), row[*column]);
        }
        line + "\n"
    };
    rows.iter().map(line).collect()
}

/// Cuts the middle of a name that is longer than `most`: names often differ at their ends.
fn shortened(name: &str, most: usize) -> String {
    let count = name.chars().count();
    if count <= most {
        return name.to_owned();
    }
    let (front, back) = (most / 2, most - most / 2 - 1);
    name.chars().take(front).chain(['…']).chain(name.chars().skip(count - back)).collect()
}

fn row(step: &StepReport) -> Row {
    let counts = &step.counts;
    let [received, done] = match step.kind {
        // A producer receives nothing; its done messages are those that it emitted.
        Kind::Producer => ["-".into(), counts.emitted.to_string()],
        _ => [counts.received.to_string(), counts.done.to_string()],
    };
    [
        one_line(&step.name),
        step.workers.to_string(),
        received,
        done,
        counts.filtered.to_string(),
        counts.failed.to_string(),
        counts.dropped.to_string(),
        counts.deferred.to_string(),
        format!("{:.0}", step.busy_percent),
        duration(step.mean),
        duration(step.p99),
    ]
}

fn conclusion(report: &Report) -> String {
    let mut text = String::new();
    if let Some(step) = report.bottleneck.as_deref().and_then(|name| report.step(name)) {
        let busy = step.busy_percent / 100.0;
        text += &(bottleneck(&step.name, step.workers, busy, true) + "\n");
    }
    if report.skipped > 0 {
        text += &format!("skipped: {} done in earlier runs\n", report.skipped);
    }
    text += &match &report.verdict {
        Verdict::Done => format!("done in {}\n", duration(report.elapsed)),
        Verdict::SomeFailed => {
            format!("done in {}, but not everything succeeded\n", duration(report.elapsed))
        }
        Verdict::Stopped(reason) => escape::message(&format!("stopped: {reason}\n")),
        Verdict::Interrupted => format!("interrupted after {}\n", duration(report.elapsed)),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, count: &str) -> Row {
        let mut row: Row = std::array::from_fn(|_| count.to_owned());
        row[0] = name.to_owned();
        row
    }

    fn widest(rows: &[Row]) -> usize {
        table(rows).lines().map(|line| line.chars().count()).max().unwrap()
    }

    #[test]
    fn a_table_fits_eighty_columns_and_leaves_out_what_is_nowhere() {
        let headings = || HEADINGS.map(str::to_owned);
        let plain = [headings(), row("CLEAN", "0")];
        assert_eq!(
            table(&plain),
            "step   workers  received  done  failed  busy %  mean  p99\n\
             CLEAN        0         0     0       0       0     0    0\n"
        );
        let long = "SUBTRACT_THE_BIAS_OF_DETECTOR_NUMBER_1_OF_THE_BLUE_ARM";
        let full = [headings(), row(long, "123456"), row("B", "123 ms")];
        assert!(table(&full).contains("filtered"));
        assert!(widest(&full) <= WIDTH, "{}", table(&full));
        assert!(table(&full).contains("SUBTR…E_ARM"), "{}", table(&full));
    }
}
