//! A process in a node that does what a test says, one step at a time: what it opens and locks
//! stays so between the steps.

use crate::{Lab, within};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

const SCRIPT: &str = include_str!("../files/hand.py");
/// No step takes longer, whatever happens meanwhile.
const STEP_MAX: Duration = Duration::from_secs(60);

/// A step's value as text (bytes in hex), or the name of its errno.
pub type Said = Result<String, String>;

/// The process.
#[derive(Debug)]
pub struct Hand {
    child: Child,
    input: Option<ChildStdin>,
    answers: Receiver<String>,
    /// Its pid in its node.
    pub pid: u32,
    node: u32,
}

impl Hand {
    /// Of root, in a node.
    #[track_caller]
    pub fn new(lab: &Lab, node: u32) -> Hand {
        Hand::under(lab, node, &[])
    }

    /// Of a user; `groups` as setpriv(1) takes them.
    #[track_caller]
    pub fn of_user(lab: &Lab, node: u32, uid: u32, gid: u32, groups: &str) -> Hand {
        let (uid, gid) = (format!("--reuid={uid}"), format!("--regid={gid}"));
        let groups = match groups {
            "" => "--clear-groups".to_owned(),
            list => format!("--groups={list}"),
        };
        Hand::under(lab, node, &["setpriv", &uid, &gid, &groups])
    }

    #[track_caller]
    fn under(lab: &Lab, node: u32, prefix: &[&str]) -> Hand {
        let mut command = lab.command(node);
        command.args(prefix).args(["/usr/bin/python3", "-u", "-c", SCRIPT]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("python3 starts");
        let output = BufReader::new(child.stdout.take().expect("it has an output"));
        let (said, answers) = channel();
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| said.send(line))
        });
        let pid = answers.recv_timeout(STEP_MAX).expect("the process says its pid");
        let pid = pid.parse().expect("its pid is a number");
        Hand { input: child.stdin.take(), child, answers, pid, node }
    }

    /// Does one step.
    #[track_caller]
    pub fn ask(&mut self, step: &str) -> Said {
        self.send(step);
        self.answer(STEP_MAX).unwrap_or_else(|| panic!("node {}: hangs in {step}", self.node))
    }

    /// Does one step that must succeed; its value.
    #[track_caller]
    pub fn ok(&mut self, step: &str) -> String {
        match self.ask(step) {
            Ok(value) => value,
            Err(errno) => panic!("node {}: {errno}: {step}", self.node),
        }
    }

    /// Begins a step.
    #[track_caller]
    pub fn send(&mut self, step: &str) {
        assert!(!step.contains('\n'), "one line: {step}");
        let input = self.input.as_mut().expect("it is not ended");
        writeln!(input, "{step}").unwrap_or_else(|e| panic!("node {}: {step}: {e}", self.node));
    }

    /// The end of a step that was begun, if it comes in time.
    #[track_caller]
    pub fn answer(&mut self, limit: Duration) -> Option<Said> {
        let line = match self.answers.recv_timeout(limit) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => return None,
            Err(e) => panic!("node {}: the process is gone: {e}", self.node),
        };
        match line.split_once(' ') {
            Some(("ok", value)) => Some(Ok(value.to_owned())),
            Some(("err", errno)) => Some(Err(errno.to_owned())),
            _ => panic!("node {}: {line}", self.node),
        }
    }

    /// Sends it a signal; how long it took to end.
    #[track_caller]
    pub fn end_by(mut self, lab: &Lab, signal: &str) -> Duration {
        let pid = self.pid.to_string();
        let begun = Instant::now();
        lab.exec(self.node, &["kill", signal, &pid]).ok();
        within(STEP_MAX, || match self.child.try_wait() {
            Ok(Some(_)) => Ok(()),
            other => Err(format!("node {}: {pid} does not end: {other:?}", self.node)),
        });
        begun.elapsed()
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        // It ends when there is nothing more to do, unless it hangs in the kernel.
        drop(self.input.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
