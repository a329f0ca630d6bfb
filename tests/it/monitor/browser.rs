//! The page in a browser, driven over WebDriver. Where there is no browser the test says
//! so and does nothing.

use base64::Engine as _;

use super::*;
use crate::support::skipped;

/// A browser; it is closed with this.
struct Browser {
    driver: Child,
    client: Client,
    session: String,
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.call("DELETE", "", Value::Null);
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// One exchange with the driver, which knows no other than whole answers.
fn exchange(client: &Client, method: &str, path: &str, body: &Value) -> Value {
    let authority = client.target();
    let authority = authority.trim_start_matches("http://").trim_end_matches('/');
    let body = if method == "POST" { body.to_string() } else { String::new() };
    let mut stream = TcpStream::connect(authority).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        assert!(reader.read_line(&mut line).unwrap() > 0, "the driver has gone");
        if let Some(found) = line.to_lowercase().strip_prefix("content-length:") {
            length = found.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut answer = vec![0; length];
    reader.read_exact(&mut answer).unwrap();
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    answer["value"].clone()
}

impl Browser {
    /// None if this machine has no driver or no browser, which is said of the test.
    fn open(test: &str) -> Option<Self> {
        let browser = Self::start();
        if browser.is_none() {
            skipped(test, "chromedriver with a browser is not here");
        }
        browser
    }

    fn start() -> Option<Self> {
        let driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut driver = driver.ok()?;
        let mut lines = BufReader::new(driver.stdout.take().unwrap());
        let port = loop {
            let mut line = String::new();
            if lines.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            if let Some((_, port)) = line.split_once("successfully on port ") {
                break port.trim().trim_end_matches('.').to_owned();
            }
        };
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        let client = Client::address(&format!("127.0.0.1:{port}"), None).unwrap();
        let args = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
        ];
        let wanted =
            json!({"capabilities": {"alwaysMatch": {"goog:chromeOptions": {"args": args}}}});
        let opened = exchange(&client, "POST", "/session", &wanted);
        let Some(session) = opened["sessionId"].as_str().map(str::to_owned) else {
            println!("no browser: {opened}");
            let _ = driver.kill();
            return None;
        };
        Some(Self { driver, client, session })
    }

    fn call(&self, method: &str, what: &str, body: Value) -> Value {
        let path = format!("/session/{}{what}", self.session);
        exchange(&self.client, method, &path, &body)
    }

    fn visit(&self, url: &str) {
        self.call("POST", "/url", json!({"url": url}));
    }

    fn script(&self, script: &str) -> Value {
        let found = self.call("POST", "/execute/sync", json!({"script": script, "args": []}));
        assert!(found.get("error").is_none(), "{script}: {found}");
        found
    }

    /// Waits until the script, which the page asks again for each change, says so.
    fn wait_until(&self, condition: &str) {
        self.call("POST", "/timeouts", json!({"script": LIMIT.as_millis() as u64}));
        let script = format!(
            "const done = arguments[0]; const look = () => {{ if ({condition}) {{ seen.disconnect(); \
             done(true); }} }}; const seen = new MutationObserver(look); \
             seen.observe(document, {{subtree: true, childList: true, attributes: true, \
             characterData: true}}); look();"
        );
        let found = self.call("POST", "/execute/async", json!({"script": script, "args": []}));
        assert_eq!(found, true, "{condition}");
    }

    fn click(&self, selector: &str) {
        let found = json!({"using": "css selector", "value": selector});
        let element = self.call("POST", "/element", found);
        let id = element.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned();
        let clicked = self.call("POST", &format!("/element/{id}/click"), json!({}));
        assert_eq!(clicked, Value::Null, "{selector}");
    }

    /// The page as it looks, into a file.
    fn picture(&self, file: &Path, (wide, high): (u32, u32), scheme: &str) {
        self.script("scrollTo(0, 0)");
        let devtools = |cmd: &str, params: Value| {
            self.call("POST", "/goog/cdp/execute", json!({"cmd": cmd, "params": params}))
        };
        let size = json!({"width": wide, "height": high, "deviceScaleFactor": 1, "mobile": false});
        devtools("Emulation.setDeviceMetricsOverride", size);
        let scheme = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        devtools("Emulation.setEmulatedMedia", json!({"features": scheme}));
        self.call("POST", "/execute/async", json!({
            "script": "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done)))",
            "args": [],
        }));
        let over = self.script("return document.documentElement.scrollWidth - innerWidth");
        assert!(over.as_i64() <= Some(0), "the page is {over} pixels too wide at {wide}");
        let picture = self.call("GET", "/screenshot", Value::Null);
        let bytes = base64::engine::general_purpose::STANDARD.decode(picture.as_str().unwrap());
        std::fs::write(file, bytes.unwrap()).unwrap();
    }
}

fn field(step: &str, name: &str) -> String {
    format!("document.querySelector('[data-step={step}] [data-field={name}]')")
}

fn steer_a_step(browser: &Browser) {
    browser.click("[data-step=SLOW] [data-action=more]");
    browser.wait_until(&format!("{}.dataset.value === '3'", field("SLOW", "workers")));
    browser.click("[data-step=SLOW] [data-action=fewer]");
    browser.wait_until(&format!("{}.dataset.value === '2'", field("SLOW", "workers")));
    browser.click("[data-step=SLOW] [data-action=pause]");
    browser.wait_until(&format!("{}.dataset.value === 'paused'", field("SLOW", "standing")));
    browser.click("[data-step=SLOW] [data-action=pause]");
}

const SIZES: [(u32, u32); 3] = [(390, 844), (1024, 768), (1920, 1080)];

#[test]
fn a_run_is_read_and_steered_on_the_page() {
    let Some(browser) = Browser::open("a_run_is_read_and_steered_on_the_page") else {
        return;
    };
    let place = tempfile::tempdir().unwrap();
    let artefacts = std::env::var_os("DRPIPE_TEST_ARTEFACTS").map(PathBuf::from);
    let artefacts = artefacts.unwrap_or_else(|| place.path().join("pictures"));
    std::fs::create_dir_all(&artefacts).unwrap();
    slow(place.path());
    let mut run = run(place.path(), &[]);
    browser.visit(&format!("http://{}/", run.address));
    let done = field("SLOW", "done");
    browser.wait_until(&format!("Number({done}?.dataset.value) > 20"));
    browser.wait_until(
        "document.getElementById('says').textContent.includes('SLOW is the bottleneck')",
    );
    for size in SIZES {
        for scheme in ["light", "dark"] {
            let file = format!("running-{}-{scheme}.png", size.0);
            browser.picture(&artefacts.join(file), size, scheme);
        }
    }
    let state = "document.querySelector('[data-field=state]').dataset.value";
    browser.click("#pause");
    browser.wait_until(&format!("{state} === 'paused'"));
    browser.wait_until("document.getElementById('says').textContent.includes('paused')");
    browser.picture(&artefacts.join("paused-1024-light.png"), SIZES[1], "light");
    assert_eq!(get(&run.client(), &run.path("view"))["paused"], true);
    browser.click("#pause");
    browser.wait_until(&format!("{state} === 'running'"));
    steer_a_step(&browser);
    // The end is asked for in a dialog.
    browser.click("#drain");
    browser.picture(&artefacts.join("confirm-390-light.png"), SIZES[0], "light");
    browser.click("#confirm-yes");
    browser.wait_until(&format!("{state} === 'ended'"));
    let shown = "return Object.fromEntries([...document.querySelectorAll('[data-step]')].map((card) => \
        [card.dataset.step, ['done', 'failed', 'dropped', 'retried'].map((name) => \
        Number(card.querySelector(`[data-field=${name}]`).dataset.value))]))";
    let shown = browser.script(shown);
    browser.picture(&artefacts.join("ended-1024-light.png"), SIZES[1], "light");
    let code = browser.script("return document.querySelector('header .badge').textContent");
    let summary = run.summary();
    for step in summary["steps"].as_array().unwrap() {
        let done = if step["kind"] == "producer" { "emitted" } else { "done" };
        let expected = [done, "failed", "dropped", "retried"].map(|key| program::count(step, key));
        assert_eq!(shown[step["name"].as_str().unwrap()], json!(expected), "{step}");
    }
    assert!(code.as_str().unwrap().starts_with("ended"), "{code}");
    // The run is gone, and what the page shows stays.
    assert_eq!(browser.script(&format!("return {state}")), "ended");
    assert_eq!(browser.script("return document.getElementById('connection').hidden"), true);
}

#[test]
fn what_a_worker_is_at_is_cancelled_on_the_page() {
    let Some(browser) = Browser::open("what_a_worker_is_at_is_cancelled_on_the_page") else {
        return;
    };
    let place = tempfile::tempdir().unwrap();
    let frame = json!({"count": 1, "width": 16, "height": 16});
    let config = json!({
        "version": 1,
        "producer": {"name": "FRAMES", "class": "SynthFrames", "params": frame},
        "stagers": [
            {"name": "SLOW", "class": "Sleep", "params": {"seconds": 3600}, "nb_process": 1},
        ],
        "consumer": {"name": "END", "class": "Discard"},
    });
    std::fs::write(place.path().join("pipeline.json"), config.to_string()).unwrap();
    let mut run = run(place.path(), &[]);
    browser.visit(&format!("http://{}/", run.address));
    browser.wait_until(
        "document.querySelector('#workers [data-action=cancel]:enabled:not([hidden])')",
    );
    browser.click("#workers [data-action=cancel]:not([hidden])");
    browser.click("#confirm-yes");
    browser.wait_until("document.querySelector('[data-field=state]').dataset.value === 'ended'");
    let summary = run.summary();
    let slow = program::step(&summary, "SLOW");
    assert_eq!(program::count(slow, "dropped"), 1, "{summary}");
    assert_eq!(program::count(slow, "retried"), 0, "{summary}");
}

/// A graph with steps that are passed by and with loops.
fn tangled(directory: &Path) {
    let pass = |name: &str, next: &[&str], feedback: &[&str]| {
        let class = if next.len() > 1 { "EvenOdd" } else { "Pass" };
        json!({"name": name, "class": class, "next_steps": next, "feedback": feedback})
    };
    let config = json!({
        "version": 1,
        "name": "a tangle",
        "producer": {"name": "NUMBERS", "class": "Integers", "params": {"last": 1_000_000_000},
            "next_steps": ["A"]},
        "stagers": [
            {"name": "A", "class": "EvenOdd", "params": {"even": "B", "odd": "G"}, "next_steps": ["B", "G"]},
            {"name": "B", "class": "EvenOdd", "params": {"even": "C", "odd": "D"}, "next_steps": ["C", "D"]},
            pass("C", &["E"], &[]),
            pass("D", &["E"], &[]),
            {"name": "E", "class": "EvenOdd", "params": {"even": "F", "odd": "B"}, "next_steps": ["F", "B"], "feedback": ["B"]},
            {"name": "F", "class": "EvenOdd", "params": {"even": "G", "odd": "A"}, "next_steps": ["G", "A"], "feedback": ["A"]},
            {"name": "G", "class": "Sleep", "params": {"seconds": 0.001}, "next_steps": ["END"]},
        ],
        "consumer": {"name": "END", "class": "Discard"},
    });
    std::fs::write(directory.join("pipeline.json"), config.to_string()).unwrap();
}

/// Lines that led back or past a step ran behind boxes, and so did their rates.
#[test]
fn no_line_of_the_graph_passes_a_box_and_no_page_is_cut() {
    let Some(browser) = Browser::open("no_line_of_the_graph_passes_a_box_and_no_page_is_cut")
    else {
        return;
    };
    let place = tempfile::tempdir().unwrap();
    let artefacts = std::env::var_os("DRPIPE_TEST_ARTEFACTS").map(PathBuf::from);
    let artefacts = artefacts.unwrap_or_else(|| place.path().join("pictures"));
    std::fs::create_dir_all(&artefacts).unwrap();
    tangled(place.path());
    let run = run(place.path(), &[]);
    browser.visit(&format!("http://{}/", run.address));
    browser.wait_until("document.querySelectorAll('#graph .box').length === 9");
    assert!(browser.script("return document.title").as_str().unwrap().contains("a tangle"));
    let crossed = "const boxes = [...document.querySelectorAll('#graph .box')].map((box) => [box.transform.baseVal[0].matrix, \
          box.querySelector('.frame').getBBox(), box.querySelector('.name').textContent]); \
        const inside = (x, y) => boxes.filter(([at, frame]) => x > at.e + 1 && x < at.e + frame.width - 1 && \
          y > at.f + 1 && y < at.f + frame.height - 1).map(([, , name]) => name); \
        const found = new Set(); \
        for (const line of document.querySelectorAll('#graph .edge')) { \
          const length = line.getTotalLength(); \
          for (let along = 0; along <= length; along += 2) { \
            const { x, y } = line.getPointAtLength(along); \
            inside(x, y).forEach((name) => found.add(name)); } } \
        for (const label of document.querySelectorAll('#graph .edge-rate')) { \
          const { x, y, width, height } = label.getBBox(); \
          if (width) for (const u of [x, x + width]) for (const v of [y, y + height]) \
            inside(u, v).forEach((name) => found.add(`${label.textContent} in ${name}`)); } \
        return [document.querySelectorAll('#graph .edge').length, [...found]]";
    for size in SIZES {
        let file = artefacts.join(format!("tangle-{}.png", size.0));
        browser.picture(&file, size, "light");
        assert_eq!(browser.script(crossed), json!([12, []]), "{} pixels wide", size.0);
        let wide = "const graph = document.querySelector('#graph .scroll'); \
            return [document.documentElement.scrollWidth <= innerWidth, graph.scrollWidth <= graph.clientWidth + 1]";
        let expected =
            if size.0 > 400 { json!([true, true]) } else { json!([true, browser.script(wide)[1]]) };
        assert_eq!(browser.script(wide), expected, "{} pixels wide", size.0);
    }
}
