//! The Keck DRP framework with its own example, by its own commands: a queue
//! manager, one command that ingests a directory, and two workers.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

/// Longer than any command takes: its workers can wait for ever.
const LIMIT: Duration = Duration::from_secs(120);

/// The installed framework.
pub struct Installed {
    python: PathBuf,
    package: PathBuf,
    pub versions: String,
}

/// The framework of DRPIPE_BENCH_KECK_PYTHON, an interpreter, or else of python3.
pub fn find() -> Option<Installed> {
    let python = std::env::var_os("DRPIPE_BENCH_KECK_PYTHON").unwrap_or_else(|| "python3".into());
    // With what the example needs: the framework alone installs without it.
    let script = "import importlib.metadata, os, platform, sys\n\
                  import astropy, keckdrpframework, matplotlib, pandas\n\
                  version = importlib.metadata.version('keckdrpframework')\n\
                  print(sys.executable)\n\
                  print(os.path.dirname(os.path.realpath(keckdrpframework.__file__)))\n\
                  print(f'Python {platform.python_version()}, keckdrpframework {version}')";
    let output = Command::new(python).args(["-c", script]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut lines = text.lines();
    Some(Installed {
        python: lines.next()?.into(),
        package: lines.next()?.into(),
        versions: lines.next()?.to_owned(),
    })
}

/// A running queue manager, and a folder with its configuration and pictures.
pub struct Keck<'a> {
    installed: &'a Installed,
    folder: &'a Path,
    /// All its processes are in this group, to be ended whatever happens.
    group: i32,
}

impl<'a> Keck<'a> {
    /// Starts the queue manager with the example's configuration, but on a
    /// free port and with PNG in place of JPEG.
    pub fn start(installed: &'a Installed, folder: &'a Path) -> Self {
        let port = TcpListener::bind("localhost:0").unwrap().local_addr().unwrap().port();
        let changes: [(&str, &[(&str, &str)]); 3] = [
            ("config.cfg", &[("50101", &port.to_string())]),
            ("fits2png.cfg", &[("\".jpg\"", "\".png\""), ("\"jpeg\"", "\"png\"")]),
            ("logger.cfg", &[]),
        ];
        for (file, changes) in changes {
            let mut text =
                fs::read_to_string(installed.package.join("examples").join(file)).unwrap();
            for (old, new) in changes {
                assert!(text.contains(old), "{file} without {old}");
                text = text.replace(old, new);
            }
            fs::write(folder.join(file), text).unwrap();
        }
        let mut keck = Self { installed, folder, group: 0 };
        let starter = keck.command("tools/start_queue_manager.py", &[]);
        keck.group = starter.id() as i32;
        keck.wait(starter);
        keck
    }

    fn command(&self, program: &str, args: &[&str]) -> Child {
        let package = &self.installed.package;
        let paths = [Path::new("."), package, package.parent().unwrap()];
        Command::new(&self.installed.python)
            .arg(package.join(program))
            .args(["-c", "config.cfg"])
            .args(args)
            // As the example's own shell script has it.
            .env("PYTHONPATH", std::env::join_paths(paths).unwrap())
            .current_dir(self.folder)
            .process_group(self.group)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn wait(&self, mut child: Child) {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < LIMIT, "a command does not end; {}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        };
        assert!(status.success(), "a command ended with {status}; {}", self.log());
    }

    /// The end of what it logged, to see why a run was no good.
    fn log(&self) -> String {
        let log = fs::read_to_string(self.folder.join("DRPF.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Seconds of the command that puts the files into the queue.
    pub fn ingest(&self, files: &Path) -> f64 {
        _ = fs::remove_dir_all(self.pictures());
        let start = Instant::now();
        let files = files.to_str().unwrap();
        self.wait(self.command("examples/test_harness2.py", &["-i", "-d", files]));
        start.elapsed().as_secs_f64()
    }

    /// Seconds of the two workers' commands, which end when the queue is empty.
    pub fn work(&self) -> f64 {
        let start = Instant::now();
        let workers = [(); 2].map(|()| self.command("examples/test_harness2.py", &[]));
        workers.into_iter().for_each(|worker| self.wait(worker));
        start.elapsed().as_secs_f64()
    }

    /// Seconds between the first picture and the last; there must be so many.
    pub fn between_pictures(&self, count: usize) -> f64 {
        let written: Vec<SystemTime> = fs::read_dir(self.pictures())
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.path().extension().is_some_and(|it| it == "png"))
            .map(|entry| entry.metadata().unwrap().modified().unwrap())
            .collect();
        assert_eq!(written.len(), count, "pictures; {}", self.log());
        let (first, last) = (written.iter().min().unwrap(), written.iter().max().unwrap());
        last.duration_since(*first).unwrap().as_secs_f64()
    }

    pub fn pictures(&self) -> PathBuf {
        self.folder.join("output")
    }

    /// Ends the queue manager by its own command.
    pub fn stop(self) {
        self.wait(self.command("tools/stop_queue_manager.py", &[]));
    }
}

impl Drop for Keck<'_> {
    fn drop(&mut self) {
        // Nothing is left to be ended unless something went wrong. Group 0 would
        // be this program's own.
        if self.group == 0 {
            return;
        }
        let group = format!("-{}", self.group);
        _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
    }
}
