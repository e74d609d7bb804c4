//! `krg hop`: a counter in a terminal that goes from node to node (OpenSSI's dbdemo, written anew).
//! It is a job, and asks for its own moves. While it counts it has no connection with krgd, or it
//! could not move.

use super::jobs::{self, Went};
use super::run::{self, RawMode};
use crate::args::{HopArgs, RunArgs};
use crate::daemon;
use anyhow::{Context, Result, bail};
use krg_sys::process::WindowSize;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Between two numbers.
const TICK_MS: u16 = 100;
/// It stays on a node for so long when it goes at random.
const STAY: Duration = Duration::from_millis(1_500);
/// It has moved by then, or krgd is asked why it has not.
const MOVE_MAX: Duration = Duration::from_secs(2);
/// So many of the nodes where it was are shown.
const WAY_MAX: usize = 12;

/// Runs it.
pub fn run(args: &HopArgs) -> Result<u8> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        bail!("krg hop shows itself in a terminal, and this is none");
    }
    if args.inside {
        return Hop::new().hop();
    }
    let own = std::env::current_exe().context("its own program is gone")?;
    let command = vec![own.into_os_string(), "hop".into(), "--inside".into()];
    run::run(RunArgs { name: Some("hop".into()), background: false, cap: None, command })
}

/// What it knows.
struct Hop {
    count: u64,
    /// Where it is: the name of the machine, which it asks of the kernel at each step, and its
    /// number, which it asks of krgd when that has changed.
    hostname: String,
    node: u32,
    /// Where it was, the last last.
    way: Vec<u32>,
    moves: u32,
    /// Nodes that can be reached, as was known last.
    nodes: Vec<u32>,
    /// It has asked for a move to there, then.
    asked: Option<(u32, Instant)>,
    /// It goes by itself, next then.
    at_random: Option<Instant>,
    said: String,
    shown: Option<(u16, u16)>,
}

fn hostname() -> String {
    nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned()
}

impl Hop {
    fn new() -> Hop {
        let mut hop = Hop {
            count: 0,
            hostname: hostname(),
            node: 0,
            way: Vec::new(),
            moves: 0,
            nodes: Vec::new(),
            asked: None,
            at_random: None,
            said: String::new(),
            shown: None,
        };
        hop.look();
        hop
    }

    /// Asks krgd of this machine where it is, and where it can go.
    fn look(&mut self) {
        match daemon::status() {
            Ok(status) => {
                let up = |node: &&krg_rpc::proto::control::Node| node.state == "online";
                self.nodes = status.nodes.iter().filter(up).map(|node| node.id).collect();
                self.node = status.node;
                if self.way.last() != Some(&self.node) {
                    self.way.push(self.node);
                    let over = self.way.len().saturating_sub(WAY_MAX);
                    self.way.drain(..over);
                }
            }
            Err(e) => self.said = format!("{e:#}"),
        }
    }

    fn hop(mut self) -> Result<u8> {
        let raw = RawMode::set().context("the terminal cannot be set up")?;
        let stdin = io::stdin();
        let mut key = [0; 1];
        loop {
            self.step();
            let mut fds = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::from(TICK_MS)) {
                Ok(0) | Err(nix::errno::Errno::EINTR) => continue,
                Ok(_) => {}
                Err(e) => return Err(e.into()),
            }
            match nix::unistd::read(&stdin, &mut key) {
                Ok(1) if !self.pressed(key[0]) => break,
                Ok(1) => {}
                // Nobody looks at it any more.
                Ok(_) | Err(_) => break,
            }
        }
        drop(raw);
        let (node, moves) = (self.node, self.moves);
        print!("\x1b[2J\x1b[H\x1b[?25h");
        println!("counted to {}, moved {moves} times, ended on node {node}", self.count);
        Ok(0)
    }

    /// Does it go on?
    fn pressed(&mut self, key: u8) -> bool {
        let was_at_random = self.at_random.take().is_some();
        match key {
            b'q' | b'Q' | 0x03 | 0x04 => return false,
            b'1'..=b'9' => self.go(u32::from(key - b'0')),
            b'h' => self.go(0),
            b'\r' | b'\n' if !was_at_random => {
                self.at_random = Some(Instant::now());
                self.said = "at random, until a key is pressed".into();
            }
            _ if was_at_random => self.said.clear(),
            _ => {}
        }
        true
    }

    /// One more, wherever it is by now.
    fn step(&mut self) {
        self.count += 1;
        let now = hostname();
        if now != self.hostname {
            self.hostname = now;
            self.moves += 1;
            self.asked = None;
            if self.at_random.is_none() {
                self.said.clear();
            }
            self.look();
            self.at_random = self.at_random.map(|_| Instant::now() + STAY);
        }
        if let Some((to, then)) = self.asked
            && then.elapsed() > MOVE_MAX
        {
            self.ask_why(to);
        }
        if self.asked.is_none() && self.at_random.is_some_and(|next| next <= Instant::now()) {
            self.at_random = Some(Instant::now() + STAY);
            self.go_somewhere();
        }
        // Who does not show it does not stop it.
        let _ = self.show();
    }

    fn go_somewhere(&mut self) {
        let others: Vec<u32> = self.nodes.iter().copied().filter(|n| *n != self.node).collect();
        let chance = RandomState::new().build_hasher().finish() as usize;
        match others.get(chance % others.len().max(1)) {
            Some(node) => self.go(*node),
            None => self.said = "there is no other node".into(),
        }
    }

    /// Asks for its own move; 0 is home.
    fn go(&mut self, to: u32) {
        if self.asked.is_some() {
            return;
        }
        let word = if to == 0 { "home".to_owned() } else { to.to_string() };
        match jobs::move_it("self", &word, false) {
            Ok(Went::Moved(_) | Went::Later | Went::Unknown) => {
                if self.at_random.is_none() {
                    self.said = format!("it goes to node {word}");
                }
                self.asked = Some((to, Instant::now()));
            }
            Err(e) => {
                self.said = format!("not to node {word}: {e:#}");
                self.look();
            }
        }
    }

    /// It was to move, and has not by now.
    fn ask_why(&mut self, to: u32) {
        self.asked = Some((to, Instant::now()));
        let id = std::process::id();
        let known = jobs::everywhere().map(|all| all.jobs).unwrap_or_default();
        let Some(job) = known.into_iter().find(|job| job.id == id || job.name == "hop") else {
            return;
        };
        if !job.refusal.is_empty() {
            self.said = format!("not to node {to}: {}", job.refusal);
            self.asked = None;
            self.look();
        }
    }

    fn lines(&self) -> Vec<String> {
        let mark = |node: &u32| match *node == self.node {
            true => format!("[{node}]"),
            false => format!(" {node} "),
        };
        let nodes: Vec<String> = self.nodes.iter().map(mark).collect();
        let way: Vec<String> = self.way.iter().map(u32::to_string).collect();
        vec![
            "krg hop: 1-9 to that node, h home, Enter at random until a key, q end".to_owned(),
            String::new(),
            format!("    count  {}", self.count),
            format!("    node   {}  {}", self.node, self.hostname),
            format!("    moves  {}", self.moves),
            format!("    nodes  {}", nodes.join(" ")),
            format!("    way    {}", way.join(" > ")),
            String::new(),
            format!("    {}", self.said),
        ]
    }

    fn show(&mut self) -> io::Result<()> {
        let size = WindowSize::of(io::stdout())?.parts();
        let mut text = String::new();
        if self.shown != Some(size) {
            text.push_str("\x1b[?25l\x1b[2J");
            self.shown = Some(size);
        }
        text.push_str(&screen(&self.lines(), size));
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}

/// The lines at their places, cut to the size of the terminal, what was there before wiped out.
fn screen(lines: &[String], (rows, columns): (u16, u16)) -> String {
    let mut text = String::from("\x1b[H");
    for (at, line) in lines.iter().enumerate().take(rows.into()) {
        let line: String =
            line.chars().filter(|c| !c.is_control()).take(columns.into()).collect();
        let end = if at + 1 < lines.len().min(rows.into()) { "\r\n" } else { "" };
        // To the end of the line before it is written: in the last column that would wipe its last.
        text.push_str("\x1b[K");
        text.push_str(&line);
        text.push_str(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_is_not_left() {
        let lines = ["one\x1b".to_owned(), "two and more".to_owned(), "three".to_owned()];
        assert_eq!(screen(&lines, (2, 5)), "\x1b[H\x1b[Kone\r\n\x1b[Ktwo a");
        assert_eq!(screen(&lines, (0, 0)), "\x1b[H");
        assert_eq!(screen(&lines[..1], (24, 80)), "\x1b[H\x1b[Kone");
    }
}
