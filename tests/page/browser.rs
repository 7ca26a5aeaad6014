//! A headless Chromium of a test's own, driven over `WebDriver`. Blocking, so that tests read from top to bottom.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use fantoccini::elements::Element;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::PATIENCE;
use crate::support::{Background, Ports, Run, get, wait_for};

/// Where screenshots go, if anywhere.
const SHOTS: &str = "TURNOUT_SCREENSHOTS";

/// A running browser with one window.
pub(super) struct Browser {
    runtime: Runtime,
    client: Client,
    /// Stopped after the window is closed.
    _driver: Background,
    _folder: TempDir,
}

/// A command of chromedriver's own.
#[derive(Debug)]
struct Vendor(&'static str, Value);

impl WebDriverCompatibleCommand for Vendor {
    fn endpoint(
        &self,
        base: &url::Url,
        session: Option<&str>,
    ) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap(), self.0))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.1.to_string()))
    }
}

impl Browser {
    /// Fails where there is no Chromium: `tests/run` installs it.
    pub(super) fn start() -> Self {
        let folder = TempDir::with_prefix("turnout-test-").unwrap();
        let address = Ports::address();
        let driver = Run::new("chromedriver")
            .arg(format!("--port={}", address.port()))
            .env("HOME", folder.path())
            .env("TMPDIR", folder.path())
            .background(&folder.path().join("chromedriver.log"));
        wait_for("chromedriver", PATIENCE, || {
            get(address, "/status", &[])
                .is_ok_and(|answer| answer.status == 200)
                .then_some(())
        });
        let profile = folder.path().join("profile");
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            "--window-size=1280,1000",
            &format!("--user-data-dir={}", profile.display()),
        ];
        let capabilities = json!({
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        });
        let Value::Object(capabilities) = capabilities else {
            unreachable!("it is an object")
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let client = runtime
            .block_on(
                ClientBuilder::new(HttpConnector::new())
                    .capabilities(capabilities)
                    .connect(&format!("http://{address}")),
            )
            .unwrap_or_else(|error| panic!("no browser: {error}\n{}", driver.printed()));
        Self {
            runtime,
            client,
            _driver: driver,
            _folder: folder,
        }
    }

    pub(super) fn open(&self, address: &str) {
        self.runtime.block_on(self.client.goto(address)).unwrap();
    }

    pub(super) fn address(&self) -> String {
        self.runtime
            .block_on(self.client.current_url())
            .unwrap()
            .to_string()
    }

    fn find(&self, css: &str) -> Option<Element> {
        self.runtime
            .block_on(self.client.find(Locator::Css(css)))
            .ok()
    }

    /// The visible text of an element; `None`: there is none, or it was replaced just now.
    pub(super) fn text(&self, css: &str) -> Option<String> {
        let element = self.find(css)?;
        self.runtime.block_on(element.text()).ok()
    }

    /// Waits until the text of an element has these words.
    #[track_caller]
    pub(super) fn says(&self, css: &str, words: &str) -> String {
        let begin = Instant::now();
        loop {
            let text = self.text(css);
            if let Some(text) = text.as_ref().filter(|text| text.contains(words)) {
                return text.clone();
            }
            assert!(
                begin.elapsed() < PATIENCE,
                "{css} does not say {words:?}, but {text:?}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[track_caller]
    pub(super) fn click(&self, css: &str) {
        // a part that is being replaced is found again
        wait_for(&format!("{css} to be clicked"), PATIENCE, || {
            let element = self.find(css)?;
            self.runtime.block_on(element.click()).ok()
        });
    }

    #[track_caller]
    pub(super) fn fill(&self, css: &str, text: &str) {
        wait_for(&format!("{css} to be filled"), PATIENCE, || {
            let element = self.find(css)?;
            self.runtime.block_on(element.clear()).ok()?;
            self.runtime.block_on(element.send_keys(text)).ok()
        });
    }

    /// Keys to whatever has the focus.
    pub(super) fn press(&self, keys: &str) {
        let focused = self.runtime.block_on(self.client.active_element()).unwrap();
        self.runtime.block_on(focused.send_keys(keys)).unwrap();
    }

    /// What has the focus, by its text or name.
    pub(super) fn focused(&self) -> String {
        let value = self.script(
            "const e = document.activeElement; return (e.innerText || e.name || e.tagName).trim()",
        );
        value.as_str().unwrap_or_default().to_owned()
    }

    pub(super) fn script(&self, script: &str) -> Value {
        self.runtime
            .block_on(self.client.execute(script, Vec::new()))
            .unwrap()
    }

    pub(super) fn devtools(&self, command: &str, parameters: &Value) {
        let body = json!({ "cmd": command, "params": parameters });
        self.runtime
            .block_on(self.client.issue_cmd(Vendor("goog/cdp/execute", body)))
            .unwrap();
    }

    /// What was logged since this was asked last.
    fn log(&self, kind: &str) -> Vec<Value> {
        let log = Vendor("se/log", json!({ "type": kind }));
        let log = self.runtime.block_on(self.client.issue_cmd(log)).unwrap();
        log.as_array().unwrap().clone()
    }

    /// Nothing went wrong in the page, and it asked nobody but `origin`.
    #[track_caller]
    pub(super) fn assert_clean(&self, origin: &str) {
        let console = self.log("browser");
        // hints of the browser to authors are told as DEBUG
        let bad = console.iter().find(|entry| entry["level"] != "DEBUG");
        assert!(bad.is_none(), "{console:#?}");
        let mut asked = 0;
        for entry in self.log("performance") {
            let message: Value = serde_json::from_str(entry["message"].as_str().unwrap()).unwrap();
            if message["message"]["method"] != "Network.requestWillBeSent" {
                continue;
            }
            let url = message["message"]["params"]["request"]["url"]
                .as_str()
                .unwrap();
            // the empty tab that the browser begins with
            if url.starts_with("data:") || url.starts_with("chrome://") {
                continue;
            }
            assert!(url.starts_with(origin), "it asked {url}");
            asked += 1;
        }
        assert!(asked > 0, "no request was seen at all");
    }

    /// A phone's width, or a desk's.
    pub(super) fn width(&self, width: u32) {
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            &json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600 }),
        );
    }

    pub(super) fn scheme(&self, scheme: &str) {
        self.devtools(
            "Emulation.setEmulatedMedia",
            &json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] }),
        );
    }

    /// True if nothing sticks out of the window to the right.
    pub(super) fn fits(&self) -> bool {
        self.script("return document.documentElement.scrollWidth <= window.innerWidth")
            .as_bool()
            .unwrap()
    }

    /// Pictures of the page in both widths and schemes, where a folder for them is named; that it fits is looked at anyway.
    #[track_caller]
    pub(super) fn shots(&self, name: &str) {
        for width in [1280, 390] {
            self.width(width);
            assert!(self.fits(), "{name} is wider than {width}");
            let Some(folder) = std::env::var_os(SHOTS).map(PathBuf::from) else {
                continue;
            };
            let height = self.script("return document.documentElement.scrollHeight");
            for scheme in ["light", "dark"] {
                self.scheme(scheme);
                self.devtools(
                    "Emulation.setDeviceMetricsOverride",
                    &json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 }),
                );
                let picture = self.runtime.block_on(self.client.screenshot()).unwrap();
                std::fs::write(folder.join(format!("{name}-{width}-{scheme}.png")), picture)
                    .unwrap();
            }
        }
        self.width(1280);
        self.scheme("light");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let client = self.client.clone();
        // the window goes with its driver otherwise
        drop(self.runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(10), client.close()).await
        }));
    }
}
