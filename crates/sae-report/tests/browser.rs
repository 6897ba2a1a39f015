//! A headless Chromium that is told what to do by its debugging pipe.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Where Debian's `chromium` and others put it.
const PROGRAMS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// A browser that does not answer for so long has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// A page in a browser, which ends with this value.
pub(crate) struct Browser {
    child: Child,
    commands: File,
    answers: Receiver<Value>,
    session: Option<String>,
    n_sent: u64,
    /// What happened besides answers.
    events: Vec<Value>,
    _folder: tempfile::TempDir,
}

impl Browser {
    /// Starts one; says why not where there is none.
    pub(crate) fn start() -> Option<Self> {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let is_there =
            |name: &&&str| std::env::split_paths(&paths).any(|at| at.join(name).exists());
        let Some(program) = PROGRAMS.iter().find(is_there) else {
            println!("skipped: no {PROGRAMS:?} here (Debian: chromium)");
            return None;
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let pipes = ["commands", "answers"].map(|name| folder.path().join(name));
        let made = Command::new("mkfifo").args(&pipes).status().expect("mkfifo starts");
        assert!(made.success(), "mkfifo: {made}");
        // The browser reads from descriptor 3 and writes to descriptor 4.
        let child = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<\"$COMMANDS\" 4>\"$ANSWERS\"", program])
            .args(["--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu"])
            .args(["--no-first-run", "--disable-extensions", "--disable-dev-shm-usage"])
            .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
            .env("COMMANDS", &pipes[0])
            .env("ANSWERS", &pipes[1])
            .stderr(Stdio::null())
            .spawn()
            .expect("sh starts");
        let commands = File::options().write(true).open(&pipes[0]).expect("a pipe");
        let mut read = BufReader::new(File::open(&pipes[1]).expect("a pipe"));
        let (send, answers) = channel();
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            while read.read_until(0, &mut bytes).is_ok_and(|n| n > 0) {
                let message = serde_json::from_slice(bytes.strip_suffix(&[0]).unwrap_or(&bytes));
                if send.send(message.expect("JSON of the browser")).is_err() {
                    break;
                }
                bytes.clear();
            }
        });
        let mut browser = Self {
            child,
            commands,
            answers,
            session: None,
            n_sent: 0,
            events: Vec::new(),
            _folder: folder,
        };
        let target = browser.ask("Target.createTarget", &json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.ask("Target.attachToTarget", &attach);
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for part in ["Page", "Runtime", "Log", "Network"] {
            browser.ask(&format!("{part}.enable"), &json!({}));
        }
        Some(browser)
    }

    /// The result of a command.
    fn ask(&mut self, method: &str, parameters: &Value) -> Value {
        self.n_sent += 1;
        let id = self.n_sent;
        let mut message = json!({"id": id, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.commands.write_all(format!("{message}\0").as_bytes()).expect("the browser listens");
        loop {
            let answer = self.answers.recv_timeout(PATIENCE).expect("the browser answers");
            if answer["id"] == id {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
            self.events.push(answer);
        }
    }

    /// Opens a file.
    pub(crate) fn open(&mut self, path: &Path) {
        let url = format!("file://{}", path.display());
        let answer = self.ask("Page.navigate", &json!({"url": url}));
        assert!(answer["errorText"].is_null(), "{url}: {}", answer["errorText"]);
        self.until("document.readyState === 'complete'");
    }

    /// The value of an expression in the page, awaited.
    pub(crate) fn value(&mut self, script: &str) -> Value {
        let parameters = json!({"expression": script, "awaitPromise": true, "returnByValue": true});
        let answer = self.ask("Runtime.evaluate", &parameters);
        assert!(answer["exceptionDetails"].is_null(), "{script}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    /// A text in the page.
    pub(crate) fn text(&mut self, script: &str) -> String {
        self.value(script).as_str().unwrap_or_else(|| panic!("{script}: no text")).to_owned()
    }

    /// Waits until an expression is true.
    pub(crate) fn until(&mut self, script: &str) {
        let start = Instant::now();
        while self.value(script) != true {
            if start.elapsed() > PATIENCE {
                let page = self.text("document.body.innerText");
                panic!("never true: {script}; errors {:?}; page: {page}", self.errors());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Shows pages to a screen of this width, in light or dark.
    pub(crate) fn screen(&mut self, width: u32, scheme: &str) {
        let metrics =
            json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        self.ask("Emulation.setDeviceMetricsOverride", &metrics);
        let scheme = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.ask("Emulation.setEmulatedMedia", &scheme);
    }

    /// What axe-core finds that is serious or critical; says that it is skipped without `SOFTSAE_AXE`.
    pub(crate) fn barriers(&mut self) -> Vec<String> {
        let Some(path) = std::env::var_os("SOFTSAE_AXE") else {
            println!("skipped: axe-core, as SOFTSAE_AXE does not say where axe.min.js is");
            return Vec::new();
        };
        let script = std::fs::read_to_string(path).expect("axe.min.js");
        // It gives nothing that could be returned.
        self.value(&format!("(() => {{ {script}\n }})()"));
        let found = self.value(
            "axe.run(document).then((all) => all.violations.filter((one) => ['serious', 'critical'].includes(one.impact)) \
             .map((one) => `${one.id}: ${one.nodes.slice(0, 3).map((node) => node.html).join(' | ')}`))",
        );
        serde_json::from_value(found).expect("a list of texts")
    }

    /// Writes a picture of the page into the folder that `SOFTSAE_SCREENSHOTS` names, if it does.
    pub(crate) fn picture(&mut self, name: &str) {
        let Some(folder) = std::env::var_os("SOFTSAE_SCREENSHOTS") else { return };
        let answer = self.ask("Page.captureScreenshot", &json!({"format": "png"}));
        let data = answer["data"].as_str().expect("a picture");
        let script =
            format!("Uint8Array.from(atob({}), (c) => c.charCodeAt(0)).join()", json!(data));
        let bytes = self.text(&script);
        let bytes: Vec<u8> = bytes.split(',').map(|byte| byte.parse().expect("a byte")).collect();
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(Path::new(&folder).join(format!("{name}.png")), bytes).expect("writes");
    }

    /// Moves the pointer to a place of the screen, with a button held or not.
    pub(crate) fn pointer(&mut self, kind: &str, [x, y]: [f64; 2], buttons: u32) {
        let button = if kind == "mouseMoved" && buttons == 0 { "none" } else { "left" };
        let event = json!({"type": kind, "x": x, "y": y, "button": button, "buttons": buttons, "clickCount": 1});
        self.ask("Input.dispatchMouseEvent", &event);
    }

    /// What the console said of errors.
    pub(crate) fn errors(&self) -> Vec<String> {
        let is_error = |event: &&Value| match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => event["params"]["type"] == "error",
            Some("Log.entryAdded") => event["params"]["entry"]["level"] == "error",
            _ => false,
        };
        self.events.iter().filter(is_error).map(ToString::to_string).collect()
    }

    /// The addresses that were asked for.
    pub(crate) fn requests(&self) -> Vec<String> {
        let url = |event: &Value| match event["method"].as_str() {
            Some("Network.requestWillBeSent") => {
                event["params"]["request"]["url"].as_str().map(str::to_owned)
            }
            _ => None,
        };
        self.events.iter().filter_map(url).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.commands.write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(10) {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
