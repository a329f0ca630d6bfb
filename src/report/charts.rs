//! The drawings of a report: strips without words, which stretch to the available room; what they
//! mean stands beside them as text.

use std::fmt::Write;

use super::markup::{count, percent, rate, text};
use crate::status::{History, StepHistory};

/// The most columns of a strip, and its number of shades: more cannot be distinguished.
const COLUMNS: usize = 160;
const SHADES: f64 = 10.0;
/// The size of a strip in units of its own; it stretches to the page.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 100.0;

/// How busy one worker was over time: the darker, the busier.
pub(super) struct Timeline {
    /// Its number within the step.
    pub(super) worker: usize,
    /// The part of the whole time that it was busy.
    pub(super) mean: f64,
    pub(super) svg: String,
}

/// The timelines of a step's workers.
pub(super) fn timelines(history: &History, step: &StepHistory) -> Vec<Timeline> {
    let mut workers: Vec<_> = step.each_worker.iter().collect();
    workers.sort_by_key(|worker| worker.worker);
    let timeline = |worker: usize, known: &[f64]| {
        let busy = completed(known, step, history.at_s.len());
        let shades = shades(&history.at_s, &busy);
        let end = history.at_s.last().copied().unwrap_or(0.0);
        let mean = busy.last().copied().unwrap_or(0.0) / end.max(f64::MIN_POSITIVE);
        let what = format!("{} worker {worker}: busy {} of the time", step.name, percent(mean));
        Timeline { worker, mean: mean.min(1.0), svg: heat(&shades, end, &what) }
    };
    workers.iter().map(|worker| timeline(worker.worker, &worker.busy_s)).collect()
}

/// Adds the missing points of a worker. The last numbers of a run are those of whole steps, so
/// each worker gets an equal share of the difference to the point before.
fn completed(known: &[f64], step: &StepHistory, points: usize) -> Vec<f64> {
    let mut busy = known.to_vec();
    let mut last = known.last().copied().unwrap_or(0.0);
    for point in known.len()..points {
        if point + 1 == points && known.len() + 1 == points && point > 0 {
            let more = step.busy_s[point] - step.busy_s[point - 1];
            last += (more / step.workers[point].max(1) as f64).max(0.0);
        }
        busy.push(last);
    }
    busy
}

/// The shade of each column: the part of its time that the worker was busy.
fn shades(at: &[f64], busy: &[f64]) -> Vec<(f64, f64, u8)> {
    let end = at.last().copied().unwrap_or(0.0);
    let columns = COLUMNS.min(at.len().saturating_sub(1)).max(1);
    let mut shades: Vec<(f64, f64, u8)> = Vec::new();
    let mut before = (0.0, 0.0);
    for column in 1..=columns {
        // Columns end at points, so that the drawing shows measured values only.
        let until = end * column as f64 / columns as f64;
        let point = at.partition_point(|time| *time < until - 1e-9).min(at.len().saturating_sub(1));
        let (Some(time), Some(spent)) = (at.get(point), busy.get(point)) else { break };
        if *time <= before.0 {
            continue;
        }
        let part = ((spent - before.1) / (time - before.0)).clamp(0.0, 1.0);
        let shade = (part * SHADES).ceil() as u8;
        match shades.last_mut() {
            Some(last) if last.2 == shade => last.1 = *time,
            _ => shades.push((before.0, *time, shade)),
        }
        before = (*time, *spent);
    }
    shades
}

fn heat(shades: &[(f64, f64, u8)], end: f64, what: &str) -> String {
    let mut svg = opening("heat", what);
    for (from, to, shade) in shades.iter().filter(|(_, _, shade)| *shade > 0) {
        let (x, width) = (scaled(*from, end), scaled(to - from, end));
        let opacity = f64::from(*shade) / SHADES;
        let _ = write!(
            svg,
            "<rect x=\"{x:.1}\" width=\"{width:.1}\" height=\"100\" fill-opacity=\"{opacity:.1}\"/>"
        );
    }
    svg + "</svg>"
}

/// Draws the messages in a step's queue over time, against the limit if it is near.
pub(super) fn queue(history: &History, step: &StepHistory, limit: Option<usize>) -> String {
    let most = step.queued.iter().copied().max().unwrap_or(0);
    let top = limit.filter(|limit| *limit <= most.saturating_mul(4)).unwrap_or(most).max(1);
    let values: Vec<f64> = step.queued.iter().map(|queued| *queued as f64).collect();
    let what = format!("messages in the queue of {}: at most {}", step.name, count(most as u64));
    area("queue", history, &values, top as f64, &what)
}

/// The highest rate in messages a second, and the drawing of the rate over time.
pub(super) fn throughput(history: &History, step: &StepHistory) -> (f64, String) {
    let mut rates = vec![0.0];
    for (at, done) in history.at_s.windows(2).zip(step.done.windows(2)) {
        let seconds = at[1] - at[0];
        // A very short time gives no rate, and the end comes soon after a point.
        let known = seconds >= history.every_s / 2.0;
        let rate = done[1].saturating_sub(done[0]) as f64 / seconds.max(f64::MIN_POSITIVE);
        rates.push(if known { rate } else { rates.last().copied().unwrap_or(0.0) });
    }
    if let [first, second, ..] = &mut rates[..] {
        *first = *second;
    }
    let most = rates.iter().copied().fold(0.0, f64::max);
    let what = format!("messages a second of {}: at most {}", step.name, rate(most));
    (most, area("rate", history, &rates, most.max(f64::MIN_POSITIVE), &what))
}

fn area(class: &str, history: &History, values: &[f64], top: f64, what: &str) -> String {
    let end = history.at_s.last().copied().unwrap_or(0.0);
    let mut svg = opening(class, what);
    svg += "<path vector-effect=\"non-scaling-stroke\" d=\"M0,100";
    for (at, value) in history.at_s.iter().zip(values) {
        let (x, y) = (scaled(*at, end), HEIGHT * (1.0 - (value / top).min(1.0)));
        let _ = write!(svg, "L{x:.1},{y:.1}");
    }
    svg + "L1000,100Z\"/></svg>"
}

fn opening(class: &str, what: &str) -> String {
    let what = text(what);
    format!(
        "<svg class=\"{class}\" role=\"img\" viewBox=\"0 0 1000 100\" preserveAspectRatio=\"none\">\
         <title>{what}</title><desc>{what}</desc>"
    )
}

fn scaled(time: f64, end: f64) -> f64 {
    if end > 0.0 { WIDTH * time / end } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(points: usize, step: StepHistory) -> History {
        let at_s = (0..points).map(|point| point as f64).collect();
        History { at_s, steps: vec![step], every_s: 1.0 }
    }

    fn step(busy: &[f64], queued: &[usize]) -> StepHistory {
        let worker = crate::status::WorkerHistory { worker: 3, busy_s: busy.to_vec() };
        StepHistory {
            name: "A<B".into(),
            queued: queued.to_vec(),
            done: (0..queued.len() as u64).map(|point| point * 10).collect(),
            failed: vec![0; queued.len()],
            busy_s: busy.to_vec(),
            workers: vec![1; queued.len()],
            each_worker: vec![worker],
        }
    }

    #[test]
    fn a_worker_is_dark_where_it_was_busy() {
        let step = step(&[0.0, 1.0, 1.0, 1.5, 1.5], &[0; 5]);
        let history = history(5, step);
        let lines = timelines(&history, &history.steps[0]);
        assert_eq!((lines[0].worker, lines[0].mean), (3, 0.375));
        let shades = shades(&history.at_s, &history.steps[0].busy_s);
        assert_eq!(shades, [(0.0, 1.0, 10), (1.0, 2.0, 0), (2.0, 3.0, 5), (3.0, 4.0, 0)]);
        assert!(lines[0].svg.contains("<title>A&lt;B worker 3: busy 38 % of the time</title>"));
        assert_eq!(lines[0].svg.matches("<rect").count(), 2);
    }

    #[test]
    fn the_last_interval_is_the_steps_share() {
        let step = step(&[0.0, 1.0, 2.0], &[0; 3]);
        assert_eq!(completed(&[0.0, 0.5], &step, 3), [0.0, 0.5, 1.5]);
        assert_eq!(completed(&[0.0], &step, 3), [0.0, 0.0, 0.0]);
    }

    #[test]
    fn queues_and_rates_reach_the_top() {
        let step = step(&[0.0; 3], &[0, 4, 2]);
        let history = history(3, step);
        let drawn = queue(&history, &history.steps[0], Some(8));
        assert!(drawn.contains("M0,100L0.0,100.0L500.0,50.0L1000.0,75.0L1000,100Z"), "{drawn}");
        let drawn = queue(&history, &history.steps[0], None);
        assert!(drawn.contains("L500.0,0.0"), "{drawn}");
        let (most, drawn) = throughput(&history, &history.steps[0]);
        assert_eq!(most, 10.0);
        assert!(drawn.contains("L0.0,0.0L500.0,0.0L1000.0,0.0"), "{drawn}");
    }

    #[test]
    fn a_run_of_one_instant_has_drawings_too() {
        let history = history(1, step(&[0.0], &[1]));
        assert_eq!(timelines(&history, &history.steps[0])[0].mean, 0.0);
        assert!(throughput(&history, &history.steps[0]).1.contains("</svg>"));
    }
}
