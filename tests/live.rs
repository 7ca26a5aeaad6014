//! `turnout status -w`, on a terminal of its own and into a pipe.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::support::{BINARY, SOON, Site, shared, wait_for};

/// A program on a terminal, whose other end is held here.
struct Terminal {
    master: File,
    child: Child,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn run(site: &Site, rows: u16, columns: u16, args: &[&str]) -> Self {
        let master: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let master = File::from(master);
        resize(&master, rows, columns);
        let slave = File::options()
            .read(true)
            .write(true)
            .open(name.to_str().unwrap())
            .unwrap();
        // `--ctty` makes it the terminal that Ctrl-C and a resize speak through
        let child = Command::new("setsid")
            .args(["--ctty", "--wait", BINARY, "--config"])
            .arg(site.config())
            .args(args)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("TERM", "xterm")
            .stdin(Stdio::from(slave.try_clone().unwrap()))
            .stdout(Stdio::from(slave.try_clone().unwrap()))
            .stderr(Stdio::from(slave))
            .spawn()
            .unwrap();
        let shown = Arc::<Mutex<Vec<u8>>>::default();
        let (mut reader, into) = (master.try_clone().unwrap(), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            // an error is the end of the last program on the terminal
            while let Ok(length @ 1..) = reader.read(&mut piece) {
                into.lock().unwrap().extend_from_slice(&piece[..length]);
            }
        });
        Self {
            master,
            child,
            shown,
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    /// The lines of the last whole frame.
    fn frame(&self) -> Option<Vec<String>> {
        let text = self.text();
        let end = text.rfind("\x1b[J\x1b[?2026l")?;
        let begin = text[..end].rfind("\x1b[?2026h\x1b[H")?;
        let frame = text[begin..end].trim_start_matches("\x1b[?2026h\x1b[H");
        Some(frame.split("\x1b[K\r\n").map(str::to_owned).collect())
    }

    fn wait_for_frame(&self, what: &str, fits: impl Fn(&[String]) -> bool) -> Vec<String> {
        wait_for(what, SOON, || self.frame().filter(|frame| fits(frame)))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn resize(master: &File, rows: u16, columns: u16) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(master, size).unwrap();
}

#[test]
fn it_moves_on_the_terminal_fits_its_window_and_leaves_it_as_it_was() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let daemon = site.serve();
    let mut terminal = Terminal::run(&site, 24, 100, &["status", "shop", "-w"]);
    let has =
        |text: &'static str| move |frame: &[String]| frame.iter().any(|line| line.contains(text));
    terminal.wait_for_frame("blue", has("blue 100%"));
    assert!(terminal.text().contains("\x1b[?1049h"), "the second screen");
    daemon.api().activate(turnout::domain::Color::Green);
    terminal.wait_for_frame("green", has("green 100%"));
    resize(&terminal.master, 5, 60);
    let small = terminal.wait_for_frame("a frame that fits", |frame| frame.len() <= 5);
    assert!(small.last().unwrap().contains("more lines"), "{small:?}");
    resize(&terminal.master, 40, 100);
    terminal.wait_for_frame("the whole again", has("green 100%"));

    daemon.kill();
    terminal.wait_for_frame("that the daemon is gone", |frame| {
        frame
            .iter()
            .any(|line| line.contains("the daemon went away") || line.contains('✖'))
    });
    let daemon = site.serve();
    terminal.wait_for_frame("the daemon to be back", |frame| {
        !frame.iter().any(|line| line.contains("went away"))
            && has("green 100%")(frame)
            && has("daemon with pid")(frame)
    });
    terminal.master.write_all(b"\x03").unwrap();
    let status = wait_for("the end", SOON, || terminal.child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    wait_for("the first screen", SOON, || {
        terminal
            .text()
            .ends_with("\x1b[?7h\x1b[?25h\x1b[?1049l")
            .then_some(())
    });
    drop(daemon);
}

#[test]
fn in_a_pipe_each_change_is_a_line_and_the_daemons_end_and_return_are_told() {
    let _turn = shared();
    let site = Site::embedded("blue_green");
    let daemon = site.serve();
    let watching = site
        .turnout()
        .command(&["status", "-w"])
        .background(&site.folder().join("watch.log"));
    let lines = |text: &str| {
        let printed = watching.printed();
        printed.lines().filter(|line| line.contains(text)).count()
    };
    wait_for("blue", SOON, || (lines("blue 100%") >= 1).then_some(()));
    daemon.api().activate(turnout::domain::Color::Green);
    wait_for("green", SOON, || (lines("green 100%") >= 1).then_some(()));
    assert!(
        !watching.printed().contains('\x1b'),
        "{}",
        watching.printed()
    );
    daemon.kill();
    wait_for("the end to be told", SOON, || {
        (lines("warning:") >= 1).then_some(())
    });
    let _daemon = site.serve();
    wait_for("the return to be told", SOON, || {
        (lines("the daemon answers") >= 1).then_some(())
    });
    watching.signal(nix::sys::signal::Signal::SIGINT);
    let mut watching = watching;
    assert_eq!(watching.wait(SOON).code(), Some(0));
}
