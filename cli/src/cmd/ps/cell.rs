//! What the columns say of one process.

use super::column::What;
use super::escape::{self, TEXT_BYTES_MAX};
use super::look::Look;
use super::names::Names;
use super::options::{Forest, Options};
use krg_rpc::proto::view::{ViewNode, ViewProcess};
use krg_sys::clock::ctime;
use std::borrow::Cow;
use std::io::Write;
use std::path::PathBuf;

/// Seconds of a day.
const DAY_S: u64 = 86_400;
/// Scheduling policies (sched(7)) in which a process has no static priority.
const NORMAL: u32 = 0;
const BATCH: u32 = 3;

/// What is the same for all processes.
pub struct Printer<'a> {
    /// What was seen.
    pub look: &'a Look,
    /// What was asked for.
    pub options: &'a Options,
    /// Names of users and groups.
    pub names: Names,
    /// Where the view is mounted, for what is asked for by the process.
    pub view: Option<PathBuf>,
    /// The wall clock, seconds since 1970.
    pub now_s: u64,
    /// KiB of memory of all nodes.
    pub mem_total_kib: u64,
    /// Nodes by their number.
    pub nodes: Vec<Option<&'a ViewNode>>,
}

/// Where a process stands in a tree: of each generation above it, does it have younger siblings?
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Branch(pub Vec<bool>);

impl<'a> Printer<'a> {
    /// For what was seen.
    pub fn new(look: &'a Look, options: &'a Options, view: Option<PathBuf>, now_s: u64) -> Self {
        let highest = look.nodes.iter().map(|node| node.node as usize).max().unwrap_or(0);
        let mut nodes = vec![None; highest.min(usize::from(u16::MAX)) + 1];
        for node in &look.nodes {
            if let Some(slot) = nodes.get_mut(node.node as usize) {
                *slot = Some(node);
            }
        }
        let (names, mem_total_kib) = (Names::default(), look.mem_total_kib());
        Printer { look, options, names, view, now_s, mem_total_kib, nodes }
    }

    /// The node of a process; none has the cluster's own.
    pub fn node(&self, p: &ViewProcess) -> Option<&'a ViewNode> {
        self.nodes.get(p.node as usize).copied().flatten()
    }

    fn hertz(&self, p: &ViewProcess) -> u64 {
        self.node(p).map_or(100, |node| u64::from(node.ticks_per_s)).max(1)
    }

    /// Since the cluster's boot.
    pub fn start_ticks(&self, p: &ViewProcess) -> u64 {
        p.start_ticks.saturating_add(self.node(p).map_or(0, |node| node.start_shift_ticks))
    }

    /// How long it exists, ticks.
    pub fn elapsed_ticks(&self, p: &ViewProcess) -> u64 {
        let hundredths = self.look.cluster.uptime_ms / 10;
        (hundredths * self.hertz(p) / 100).saturating_sub(self.start_ticks(p))
    }

    fn start_s(&self, p: &ViewProcess) -> u64 {
        self.look.cluster.boot_time_s.saturating_add(self.start_ticks(p) / self.hertz(p))
    }

    /// The time of a processor that it used, ticks.
    pub fn used_ticks(p: &ViewProcess) -> u64 {
        p.utime_ticks.saturating_add(p.stime_ticks)
    }

    fn used_s(&self, p: &ViewProcess) -> u64 {
        Self::used_ticks(p) / self.hertz(p)
    }

    /// The share of a processor that it used since it began, thousandths.
    fn cpu_mille(&self, p: &ViewProcess) -> u64 {
        match self.elapsed_ticks(p) {
            0 => 0,
            elapsed => Self::used_ticks(p).saturating_mul(1000) / elapsed,
        }
    }

    /// Its resident memory.
    pub fn rss_kib(&self, p: &ViewProcess) -> u64 {
        let page = self.node(p).map_or(4096, |node| u64::from(node.page_size));
        p.rss_pages.saturating_mul(page / 1024)
    }

    /// Appends what a column says; returns the cells it takes.
    pub fn cell(
        &self,
        what: What,
        p: &ViewProcess,
        branch: &Branch,
        room: usize,
        out: &mut Vec<u8>,
    ) -> usize {
        let start = out.len();
        match what {
            What::Euser => return self.name(&self.names.user(p.euid), p.euid, room, out),
            What::Ruser => return self.name(&self.names.user(p.ruid), p.ruid, room, out),
            What::Egroup => return self.name(&self.names.group(p.egid), p.egid, room, out),
            What::Rgroup => return self.name(&self.names.group(p.rgid), p.rgid, room, out),
            What::Args | What::Comm | What::ShortComm => {
                let drawn = self.draw(branch, room, out);
                let mut room = room - drawn;
                if what == What::ShortComm {
                    room = room.min(8);
                }
                let text = match what {
                    What::Args => args(p),
                    What::Comm if self.options.full_names => args(p),
                    _ => Cow::Owned(comm(p)),
                };
                return drawn + escape::put(out, &text, room);
            }
            What::Wchan => {
                let name = self.wchan(p);
                return escape::put(out, &name, room);
            }
            // Writing into a text does not fail.
            _ => drop(self.number(what, p, out)),
        }
        out.len() - start
    }

    fn number(&self, what: What, p: &ViewProcess, out: &mut Vec<u8>) -> std::io::Result<()> {
        match what {
            What::Node if p.node == 0 => write!(out, "-"),
            What::Node => write!(out, "{}", p.node),
            What::Age => match self.node(p).filter(|node| node.age_ms != u32::MAX) {
                Some(node) => write!(out, "{}.{}", node.age_ms / 1000, node.age_ms % 1000 / 100),
                None => write!(out, "-"),
            },
            What::Pid => write!(out, "{}", p.pid),
            What::Ppid => write!(out, "{}", p.ppid),
            What::Pgrp => write!(out, "{}", p.pgrp),
            What::Session => write!(out, "{}", p.session),
            What::Tpgid if p.tpgid == u32::MAX => write!(out, "-1"),
            What::Tpgid => write!(out, "{}", p.tpgid),
            What::Euid => write!(out, "{}", p.euid),
            What::Ruid => write!(out, "{}", p.ruid),
            What::Egid => write!(out, "{}", p.egid),
            What::Rgid => write!(out, "{}", p.rgid),
            What::Stat => out.write_all(stat(p).as_bytes()),
            What::State => out.write_all(&[letter(p)]),
            What::Flags => write!(out, "{:o}", p.flags >> 6 & 7),
            What::Tty => out.write_all(tty(p.tty).as_bytes()),
            What::Nice if p.policy != NORMAL && p.policy != BATCH => write!(out, "-"),
            What::Nice => write!(out, "{}", p.nice),
            What::Priority(sign, from) => write!(out, "{}", from + sign * p.priority),
            What::RtPriority if p.policy == NORMAL => write!(out, "-"),
            What::RtPriority => write!(out, "{}", p.rt_priority),
            What::Class => out.write_all(class(p.policy).as_bytes()),
            What::Policy => write!(out, "{}", p.policy),
            What::Processor => write!(out, "{}", p.processor),
            What::Running if letter(p) == b'R' => write!(out, "{}", p.processor),
            What::Running => write!(out, "*"),
            What::Threads => write!(out, "{}", p.threads),
            What::MajorFaults => write!(out, "{}", p.major_faults),
            What::MinorFaults => write!(out, "{}", p.minor_faults),
            What::RssKib => write!(out, "{}", self.rss_kib(p)),
            What::VszKib => write!(out, "{}", p.vsize_bytes / 1024),
            What::VszPages => write!(out, "{}", p.vsize_bytes / 4096),
            What::MemPercent => {
                let mille = (self.rss_kib(p) * 1000 / self.mem_total_kib.max(1)).min(999);
                write!(out, "{:2}.{}", mille / 10, mille % 10)
            }
            _ => self.time(what, p, out),
        }
    }

    fn time(&self, what: What, p: &ViewProcess, out: &mut Vec<u8>) -> std::io::Result<()> {
        match what {
            What::CpuPercent => match self.cpu_mille(p) {
                mille @ 0..1000 => write!(out, "{}.{}", mille / 10, mille % 10),
                mille => write!(out, "{}", mille / 10),
            },
            What::CpuWhole => write!(out, "{:2}", (self.cpu_mille(p) / 10).min(99)),
            What::CpuMille => write!(out, "{:3}", self.cpu_mille(p).min(999)),
            What::Time => {
                let s = self.used_s(p);
                days(out, s)?;
                write!(out, "{:02}:{:02}:{:02}", s % DAY_S / 3600, s / 60 % 60, s % 60)
            }
            What::TimeSeconds => write!(out, "{}", self.used_s(p)),
            What::MinuteTime => {
                let s = self.used_s(p);
                write!(out, "{:3}:{:02}", s / 60, s % 60)
            }
            What::ElapsedSeconds => write!(out, "{}", self.elapsed_ticks(p) / self.hertz(p)),
            What::Elapsed => {
                let s = self.elapsed_ticks(p) / self.hertz(p);
                days(out, s)?;
                if s >= 3600 {
                    write!(out, "{:02}:", s % DAY_S / 3600)?;
                }
                write!(out, "{:02}:{:02}", s / 60 % 60, s % 60)
            }
            What::StartLong => write!(out, "{}", ctime(self.start_s(p))),
            What::StartShort => {
                out.write_all(start_short(self.start_s(p), self.now_s).as_bytes())
            }
            What::StartClock => {
                let (s, text) = (self.start_s(p), ctime(self.start_s(p)));
                match s + DAY_S > self.now_s {
                    true => write!(out, "{}", part(&text, 11, 19)),
                    false => write!(out, "  {}{}", part(&text, 4, 8), padded(part(&text, 8, 10))),
                }
            }
            What::StartBsd => {
                let (s, text) = (self.start_s(p), ctime(self.start_s(p)));
                match self.now_s.saturating_sub(s) > DAY_S {
                    true => write!(out, "{}", part(&text, 4, 10)),
                    false => write!(out, "{}", part(&text, 10, 16)),
                }
            }
            _ => write!(out, "-"),
        }
    }

    /// A name that does not fit ends with a `+`.
    fn name(&self, name: &str, id: u32, room: usize, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        if !self.options.numeric {
            let cells = escape::put(out, &escape::taken_in(name.into()), TEXT_BYTES_MAX);
            if cells <= room {
                return cells;
            }
            if room > 0 && out.get(start + room - 1).is_some_and(u8::is_ascii) {
                out.truncate(start + room - 1);
                out.push(b'+');
                return room;
            }
            out.truncate(start);
        }
        let _ = write!(out, "{id}");
        out.len() - start
    }

    /// The lines of the tree before a command.
    fn draw(&self, branch: &Branch, room: usize, out: &mut Vec<u8>) -> usize {
        let step = if self.options.forest == Some(Forest::Indented) { 2 } else { 4 };
        let start = out.len();
        let last = branch.0.len().saturating_sub(1);
        for (at, more) in branch.0.iter().enumerate() {
            if room - (out.len() - start) < step {
                break;
            }
            out.extend_from_slice(match (step, at == last, more) {
                (2, ..) => b"  ",
                (_, true, _) => b" \\_ ",
                (_, false, true) => b" |  ",
                (_, false, false) => b"    ",
            });
        }
        out.len() - start
    }

    /// Where in the kernel it waits: its node is asked.
    fn wchan(&self, p: &ViewProcess) -> Vec<u8> {
        if p.pid == 1 {
            return b"-".to_vec();
        }
        let path = self.view.as_ref().map(|view| view.join(format!("{}/wchan", p.pid)));
        let name = path.and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
        match name.as_slice() {
            b"" => b"?".to_vec(),
            b"0" => b"-".to_vec(),
            name => {
                let name = name.strip_prefix(b".").unwrap_or(name);
                let from = name.iter().position(|b| *b != b'_').unwrap_or(name.len());
                name[from..].to_vec()
            }
        }
    }
}

fn days(out: &mut Vec<u8>, s: u64) -> std::io::Result<()> {
    if s >= DAY_S { write!(out, "{}-", s / DAY_S) } else { Ok(()) }
}

fn part(text: &str, from: usize, to: usize) -> &str {
    text.get(from..to).unwrap_or("?")
}

fn padded(day: &str) -> String {
    day.replace(' ', "0")
}

/// The time of a day; the day of a year; the year.
fn start_short(s: u64, now_s: u64) -> String {
    let (then, now) = (ctime(s), ctime(now_s));
    if part(&then, 20, 24) != part(&now, 20, 24) {
        return part(&then, 20, 24).to_owned();
    }
    if part(&then, 4, 10) != part(&now, 4, 10) {
        return format!("{}{}", part(&then, 4, 7), padded(part(&then, 8, 10)));
    }
    part(&then, 11, 16).to_owned()
}

/// The letter of its state.
pub fn letter(p: &ViewProcess) -> u8 {
    u8::try_from(p.state).ok().filter(u8::is_ascii_graphic).unwrap_or(b'?')
}

/// The state with what else is known (ps(1), "PROCESS STATE CODES").
pub fn stat(p: &ViewProcess) -> String {
    let mut text = String::from(char::from(letter(p)));
    let marks = [
        (p.nice < 0, '<'),
        (p.nice > 0, 'N'),
        (p.locked_memory, 'L'),
        (p.session == p.pid, 's'),
        (p.threads > 1, 'l'),
        (p.pgrp == p.tpgid, '+'),
    ];
    text.extend(marks.into_iter().filter_map(|(is, mark)| is.then_some(mark)));
    text
}

/// The name of a policy (sched(7)).
fn class(policy: u32) -> &'static str {
    ["TS", "FF", "RR", "B", "ISO", "IDL", "DLN", "#7", "#8", "#9"]
        .get(policy as usize)
        .copied()
        .unwrap_or("?")
}

/// The name of a terminal by its number alone (Documentation/admin-guide/devices.txt): it may be
/// another node's.
pub fn tty(device: u32) -> String {
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00);
    match (major, minor) {
        (136..=143, _) => format!("pts/{}", (major - 136) * 256 + minor),
        (4, 0..=63) => format!("tty{minor}"),
        (4, _) => format!("ttyS{}", minor - 64),
        (5, 0) => "tty".into(),
        (5, 1) => "console".into(),
        (204, 64..=79) => format!("ttyAMA{}", minor - 64),
        (229, _) => format!("hvc{minor}"),
        _ => "?".into(),
    }
}

/// The name of the program, as ps takes it from stat.
pub fn comm(p: &ViewProcess) -> Vec<u8> {
    escape::taken_in(p.comm.clone())
}

/// The arguments with blanks between them, or the name of the program in brackets.
pub fn args(p: &ViewProcess) -> Cow<'_, [u8]> {
    let text = &p.cmdline[..p.cmdline.len().min(TEXT_BYTES_MAX - 1)];
    if text.is_empty() {
        let mut name = comm(p);
        name.insert(0, b'[');
        name.push(b']');
        if letter(p) == b'Z' {
            name.extend_from_slice(b" <defunct>");
        }
        return Cow::Owned(name);
    }
    let end = text.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
    // What ends in a blank and not in a zero loses it.
    let end =
        if end == text.len() && matches!(text[end - 1], b' ' | b'\n') { end - 1 } else { end };
    let blank = |b: &u8| if matches!(b, 0 | b'\n') { b' ' } else { *b };
    match escape::taken_in(text[..end].iter().map(blank).collect()) {
        none if none.is_empty() => Cow::Borrowed(b"?"),
        text => Cow::Owned(text),
    }
}
