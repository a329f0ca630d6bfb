//! The ledger at the end of a run.

use crate::base::escape::{self, one_line};
use crate::base::format::duration;
use crate::event::{ActionCounts, Report, StepReport, Verdict};
use crate::stage::registry::Kind;
use crate::status::bottleneck;

const STEPS: [&str; 12] = [
    "step", "workers", "received", "done", "filtered", "failed", "dropped", "deferred", "results",
    "busy %", "mean", "p99",
];
const ACTIONS: [&str; 6] = ["action", "done", "skipped", "failed", "deferred", "time"];
/// The columns that are left out if they are 0 in every row.
const MAY_BE_EMPTY: [&str; 5] = ["filtered", "dropped", "results", "skipped", "deferred"];
/// The greatest width of the table, in characters: that of the usual terminal.
const WIDTH: usize = 80;
/// The fewest characters to which a step's name is cut.
const SHORTEST_NAME: usize = 8;

type Row = Vec<String>;

/// The ledger as a table, what was counted beside it, and its conclusion.
pub(crate) fn text(report: &Report) -> String {
    let rows: Vec<Row> = report.steps.iter().map(row).collect();
    table(&STEPS, &rows) + &actions(report) + &conclusion(report)
}

/// The actions of the steps, if they have counted some.
fn actions(report: &Report) -> String {
    let of_step = |step: &StepReport| {
        let cells = |action: &ActionCounts| {
            let ActionCounts { done, skipped, failed, deferred, .. } = action;
            let counts = [done, skipped, failed, deferred].map(|count| count.to_string());
            let mut cells = vec![one_line(&format!("{} {}", step.name, action.name))];
            cells.extend(counts);
            cells.push(duration(action.busy));
            cells
        };
        step.actions.iter().map(cells).collect::<Vec<_>>()
    };
    let rows: Vec<Row> = report.steps.iter().flat_map(of_step).collect();
    if rows.is_empty() { String::new() } else { table(&ACTIONS, &rows) }
}

/// Formats rows of cells. Columns are two spaces apart, or one if the table is too wide; if that is
/// not enough, names are cut, and then the last columns are left out.
fn table(headings: &[&str], rows: &[Row]) -> String {
    let is_shown = |column: &usize| {
        let empty = rows.iter().all(|row| row[*column] == "0");
        !(empty && MAY_BE_EMPTY.contains(&headings[*column]))
    };
    let mut columns: Vec<usize> = (1..headings.len()).filter(is_shown).collect();
    let headings: Row = headings.iter().map(|heading| (*heading).to_owned()).collect();
    let rows: Vec<&Row> = std::iter::once(&headings).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let mut widths: Vec<usize> = columns.iter().map(|column| width(*column).unwrap_or(0)).collect();
    while widths.iter().map(|width| width + 1).sum::<usize>() > WIDTH - SHORTEST_NAME {
        columns.pop();
        widths.pop();
    }
    let numbers = |gap: usize| widths.iter().map(|width| width + gap).sum::<usize>();
    let name = width(0).unwrap_or(0);
    let gap = if name + numbers(2) <= WIDTH { 2 } else { 1 };
    let name = name.min(WIDTH.saturating_sub(numbers(gap)).max(SHORTEST_NAME));
    let line = |row: &&Row| {
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
    vec![
        one_line(&step.name),
        step.workers.to_string(),
        received,
        done,
        counts.filtered.to_string(),
        counts.failed.to_string(),
        counts.dropped.to_string(),
        counts.deferred.to_string(),
        counts.results.to_string(),
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
        let mut row = vec![count.to_owned(); STEPS.len()];
        row[0] = name.to_owned();
        row
    }

    fn widest(rows: &[Row]) -> usize {
        table(&STEPS, rows).lines().map(|line| line.chars().count()).max().unwrap()
    }

    #[test]
    fn a_table_fits_eighty_columns_and_leaves_out_what_is_nowhere() {
        let plain = [row("CLEAN", "0")];
        assert_eq!(
            table(&STEPS, &plain),
            "step   workers  received  done  failed  busy %  mean  p99\n\
             CLEAN        0         0     0       0       0     0    0\n"
        );
        let long = "SUBTRACT_THE_BIAS_OF_DETECTOR_NUMBER_1_OF_THE_BLUE_ARM";
        let full = [row(long, "1234"), row("B", "1 ms")];
        let text = table(&STEPS, &full);
        assert!(text.contains("filtered") && text.contains("results"), "{text}");
        assert!(widest(&full) <= WIDTH, "{text}");
        assert!(text.contains("SUBTR…_ARM") && !text.contains("p99"), "{text}");
    }
}
