//! The page of a run: `drpipe report` and `drpipe run --report`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::why::Night;
use crate::support::data::installed;
use crate::support::processes::eventually;
use crate::support::program::{drpipe, finish};

/// Numbers of which some fail at one step and others at a second one.
fn numbers(seconds: f64) -> String {
    json!({
        "version": 1,
        "producer": { "name": "NUMBERS", "class": "Integers", "params": { "first": 1, "last": 200 } },
        "stagers": [
            { "name": "FAULTY", "class": "Fault", "params": { "fault": "fail", "numbers": 20, "retryable": false } },
            { "name": "PANICS", "class": "Fault", "params": { "fault": "panic", "numbers": 33 } },
            { "name": "WAIT", "class": "Sleep", "nb_thread": 3, "queue_limit": 8, "params": { "seconds": seconds } },
        ],
        "consumer": { "name": "END", "class": "Discard" }
    })
    .to_string()
}

fn directory(config: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("pipeline.json"), config).unwrap();
    directory
}

fn run(directory: &Path, args: &[&str], code: i32) {
    let mut command = drpipe(directory);
    finish(command.args(["-q", "--log-level", "off"]).args(args)).expect_code(code);
}

/// What a reader sees of the page, each failure's row apart.
struct Page {
    html: String,
}

impl Page {
    fn read(path: &Path) -> Self {
        let page = Self { html: fs::read_to_string(path).unwrap() };
        page.check();
        page
    }

    /// What must hold of every page: it needs nothing else, and its tags are closed.
    #[track_caller]
    fn check(&self) {
        let html = &self.html;
        for word in
            ["http://", "https://", "src=", "<script", "<link", "@import", "url(", "<iframe"]
        {
            assert!(!html.contains(word), "{word}");
        }
        assert!(html.contains("Content-Security-Policy\" content=\"default-src 'none'; style-src"));
        let mut open = Vec::new();
        let void = ["meta", "rect", "path", "!DOCTYPE"];
        for tag in html.split('<').skip(1).map(|rest| rest.split('>').next().unwrap()) {
            let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
            if void.contains(&name) {
                continue;
            }
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name), "</{name}> closes another tag");
            } else {
                open.push(name);
            }
        }
        assert!(open.is_empty(), "{open:?} are open at the end");
        assert_eq!(html.matches("<svg").count(), html.matches("<title>").count() - 1);
    }

    /// The text of each failure's row.
    fn failures(&self) -> Vec<String> {
        let rows = self.html.split("<tr class=\"failure\">").skip(1);
        rows.map(|row| words(row.split("</tr>").next().unwrap())).collect()
    }

    fn text(&self) -> String {
        let body = self.html.split("<body>").nth(1).unwrap();
        words(body)
    }
}

/// The text between the tags.
fn words(html: &str) -> String {
    let parts = html.split('<').map(|part| part.split_once('>').map_or(part, |(_, text)| text));
    let text: String = parts.collect::<Vec<_>>().join(" ");
    let plain = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];
    plain.iter().fold(text, |text, (code, sign)| text.replace(code, sign))
}

#[test]
fn every_failed_input_stands_in_the_report_with_its_reason() {
    let night = Night::new();
    fs::write(night.at("raw/bad.fits"), "no frame").unwrap();
    let hostile = "raw/<b onmouseover=alert(1)>'&amp; \u{202e}.fits";
    fs::write(night.at(hostile), "SIMPLE = <script>").unwrap();
    night.run(&["--report", "page.html", "--trace", "trace.json"], 1);
    let page = Page::read(&night.at("page.html"));
    let failures = page.failures();
    assert_eq!(failures.len(), 2, "{failures:?}");
    let of = |name: &str| failures.iter().find(|failure| failure.contains(name)).unwrap();
    let bad = of("raw/bad.fits");
    for part in ["not a FITS file", "READ", "worker 0", "000002-READ", "kept in"] {
        assert!(bad.contains(part), "{part} in {bad}");
    }
    of("<b onmouseover=alert(1)>'&amp; \\u{202e}.fits");
    assert!(!page.html.contains("<b on") && !page.html.contains('\u{202e}'));
    let text = page.text();
    for part in [
        "The run reached its end, but 2 messages failed",
        "The ledger balances",
        "out/png/synth_0000.png",
        "raw/synth_0000.fits",
        "quarantine retry",
        "HistogramEqualization",
        "99 %",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    // From the journal it is the same, with every product.
    finish(drpipe(night.path()).args(["report", "reduce.journal", "-o", "again.html"]))
        .expect_code(0);
    let again = Page::read(&night.at("again.html"));
    assert_eq!(again.failures(), failures);
    assert!(again.text().contains("8 files were made known"), "{}", again.text());
}

#[test]
fn failures_at_several_steps_are_all_there_from_every_source() {
    let directory = directory(&numbers(0.001));
    let at = |name: &str| directory.path().join(name);
    let args = ["--report", "page.html", "--events", "events.jsonl", "--journal", "run.journal"];
    run(directory.path(), &[&args[..], &["--summary", "summary.json"]].concat(), 1);
    let page = Page::read(&at("page.html"));
    let summary: Value = serde_json::from_slice(&fs::read(at("summary.json")).unwrap()).unwrap();
    assert_eq!(page.failures().len() as u64, summary["quarantined"].as_u64().unwrap());
    let panics = page.failures().iter().filter(|failure| failure.contains("(panicked)")).count();
    assert_eq!(panics, 6, "every 33rd of 200");
    for (source, output) in [("events.jsonl", "events.html"), ("run.journal", "journal.html")] {
        finish(drpipe(directory.path()).args(["report", source, "-o", output])).expect_code(0);
        assert_eq!(Page::read(&at(output)).failures(), page.failures(), "{source}");
    }
    // Without -o the page has the run's name; with - it is printed.
    finish(drpipe(directory.path()).args(["report", "run.journal"])).expect_code(0);
    let name = format!("{}.html", summary["run"].as_str().unwrap());
    let printed =
        finish(drpipe(directory.path()).args(["report", "run.journal", "-o", "-"])).expect_code(0);
    assert_eq!(printed.out, fs::read_to_string(at(&name)).unwrap());
}

#[test]
fn a_killed_run_has_a_report_from_its_journal_and_from_its_events() {
    let night = Night::new();
    fs::write(night.at("raw/aaa.fits"), "no frame").unwrap();
    night.kill(&["--events", "events.jsonl", "--report", "never.html"]);
    assert!(!night.at("never.html").exists(), "it is written at the end");
    for (source, page) in [("reduce.journal", "journal.html"), ("events.jsonl", "events.html")] {
        finish(drpipe(night.path()).args(["report", source, "-o", page])).expect_code(0);
        let page = Page::read(&night.at(page));
        let text = page.text();
        for part in ["killed, or is still under way", "under way", "--resume", "Ledger"] {
            assert!(text.contains(part), "{source}: {part} in {text}");
        }
        assert!(page.failures()[0].contains("raw/aaa.fits"), "{source}: {:?}", page.failures());
        assert!(!text.contains("The ledger balances"), "{source}");
    }
}

#[test]
fn a_run_that_was_stopped_or_could_not_begin_has_its_report_too() {
    let mut config: Value = serde_json::from_str(&numbers(0.0)).unwrap();
    config["stagers"][0]["on_error"] = "stop".into();
    let stopped = directory(&config.to_string());
    run(stopped.path(), &["--report", "page.html"], 3);
    let text = Page::read(&stopped.path().join("page.html")).text();
    assert!(
        text.contains("The run was stopped after") && text.contains("it stopped the run"),
        "{text}"
    );
    let broken = json!({
        "version": 1,
        "producer": { "name": "LINES", "class": "Lines", "params": { "file": "missing.txt" } },
        "consumer": { "name": "END", "class": "Discard" }
    });
    let broken = directory(&broken.to_string());
    run(broken.path(), &["--report", "page.html"], 3);
    let text = Page::read(&broken.path().join("page.html")).text();
    assert!(text.contains("init of") && text.contains("missing.txt"), "{text}");
}

#[test]
fn what_is_wrong_about_sources_and_targets_is_said() {
    let directory = directory(&numbers(0.0));
    let refused = |args: &[&str], parts: &[&str]| {
        let run = finish(drpipe(directory.path()).args(args)).expect_code(2);
        for part in parts {
            assert!(run.err.contains(part), "{part} in {}", run.err);
        }
    };
    refused(&["--report", "missing/page.html"], &["--report missing/page.html", "create it first"]);
    refused(&["report", "missing.journal"], &["missing.journal", "No such file"]);
    refused(&["report", "pipeline.json"], &["has no event of a run", "--events FILE"]);
    run(directory.path(), &["--journal", "run.journal"], 1);
    refused(
        &["report", "run.journal", "--run", "nothing"],
        &["has no run nothing", "its runs are 2"],
    );
}

#[test]
fn a_file_of_events_that_is_cut_or_lacks_some_says_so() {
    let directory = directory(&numbers(0.0));
    run(directory.path(), &["--events", "events.jsonl"], 1);
    let text = fs::read_to_string(directory.path().join("events.jsonl")).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.insert(2, "{\"event\":\"omitted\",\"count\":7}");
    lines.insert(3, "not an event");
    let cut = lines.join("\n") + "\n{\"number\":99,\"at";
    fs::write(directory.path().join("cut.jsonl"), cut).unwrap();
    finish(drpipe(directory.path()).args(["report", "cut.jsonl", "-o", "page.html"]))
        .expect_code(0);
    let text = Page::read(&directory.path().join("page.html")).text();
    for part in [
        "7 events were not kept",
        "cut off",
        "1 lines of the file are not events that this version knows",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

/// Pictures of a page as a browser draws it, for people to look at: in
/// `DRPIPE_TEST_ARTEFACTS`, if that is set.
#[test]
fn a_browser_draws_the_page() {
    if !installed("a_browser_draws_the_page", "chromium") {
        return;
    }
    let directory = directory(&numbers(0.01));
    run(directory.path(), &["--report", "page.html", "--journal", "run.journal"], 1);
    let kept = std::env::var_os("DRPIPE_TEST_ARTEFACTS").map(PathBuf::from);
    let place = kept.clone().unwrap_or_else(|| directory.path().to_owned());
    fs::create_dir_all(&place).unwrap();
    let page = directory.path().join("page.html");
    // A browser's own window is not as narrow as a telephone.
    let narrow = format!(
        "<iframe src=\"file://{}\" style=\"width:390px;height:4000px;border:0\"></iframe>",
        page.display()
    );
    fs::write(directory.path().join("narrow.html"), narrow).unwrap();
    for (name, file, size, scheme) in [
        ("report-wide-light.png", "page.html", "1280,2600", None),
        ("report-wide-dark.png", "page.html", "1280,2600", Some("--force-dark-mode")),
        ("report-narrow-light.png", "narrow.html", "500,4000", None),
    ] {
        let picture = place.join(name);
        let mut browser = Command::new("chromium");
        browser.args(["--headless=new", "--no-sandbox", "--hide-scrollbars", "--disable-gpu"]);
        browser.args(scheme);
        browser.arg(format!("--user-data-dir={}", directory.path().join("profile").display()));
        browser.arg(format!("--screenshot={}", picture.display()));
        browser.arg(format!("--window-size={size}"));
        browser.arg(format!("file://{}", directory.path().join(file).display()));
        let mut child = browser.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let ended = eventually("the browser", || child.try_wait().unwrap());
        assert!(ended.success(), "{name}");
        let drawn = fs::read(&picture).unwrap();
        assert!(
            drawn.starts_with(b"\x89PNG") && drawn.len() > 20_000,
            "{name}: {} bytes",
            drawn.len()
        );
    }
}
