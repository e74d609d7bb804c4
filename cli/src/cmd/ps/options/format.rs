//! Formats: the ready ones, and those made of named columns.

use super::super::column::{self, Column, What};
use super::{Done, Refusal};

/// Of BSD's u.
const USERS: &str = "user,pid,pcpu,pmem,vsz,rss,tname,stat,start_time,bsdtime,args";
/// Of BSD's j.
const JOBS: &str = "ppid,pid,pgid,sid,tname,tpgid,stat,uid,bsdtime,args";
/// Of BSD's l.
const LONG: &str = "flags,uid,pid,ppid,priority,nice,vsz,rss,wchan,stat,tname,bsdtime,args";

/// What was said about the format.
#[derive(Default)]
pub struct Formats {
    /// Letters of UNIX that stand for one or change it.
    unix: Vec<char>,
    /// Letters of BSD.
    bsd: Vec<char>,
    /// Columns that were named.
    own: Vec<Column>,
    /// They stand between others.
    around: bool,
    /// The order of the lines.
    pub sort: Vec<(What, bool)>,
    sorted: bool,
}

fn named(names: &str) -> Vec<Column> {
    names.split(',').filter_map(|name| column::named(name, None)).collect()
}

/// Between commas, blanks, tabs or newlines; one may be at the end.
fn items(list: &str) -> Result<Vec<&str>, Refusal> {
    const BETWEEN: [char; 4] = [',', ' ', '\t', '\n'];
    let list = list.strip_suffix(BETWEEN).unwrap_or(list);
    let items: Vec<&str> = list.split(BETWEEN).collect();
    if items.iter().any(|item| item.is_empty()) { Err(Refusal::Wrong) } else { Ok(items) }
}

impl Formats {
    /// A letter of UNIX.
    pub fn unix(&mut self, letter: char) {
        self.unix.push(letter);
    }

    /// A letter of BSD.
    pub fn bsd(&mut self, letter: char) {
        if !self.bsd.contains(&letter) {
            self.bsd.push(letter);
        }
    }

    /// `-o`: columns with a heading of their own or a width, `pid=`, `user:12`, `args=WHAT`.
    pub fn own(&mut self, list: &str) -> Done {
        for item in items(list)? {
            let (item, head) = match item.split_once('=') {
                Some((item, head)) => (item, Some(head)),
                None => (item, None),
            };
            let (name, width) = match item.split_once(':') {
                Some((name, width)) => (name, Some(width)),
                None => (item, None),
            };
            let mut column = column::named(name, head).ok_or(Refusal::Beyond)?;
            if let Some(width) = width {
                let digits = !width.starts_with('0') && width.bytes().all(|b| b.is_ascii_digit());
                let cells = width.parse().ok().filter(|cells| digits && *cells <= 1 << 16);
                column.width = cells.ok_or(Refusal::Beyond)?;
                column.pids = false;
            }
            self.own.push(column);
        }
        Ok(())
    }

    /// `-O`: the same between the usual ones.
    pub fn around(&mut self, list: &str) -> Done {
        if !self.own.is_empty() {
            return Err(Refusal::Beyond);
        }
        self.around = true;
        self.own(list)
    }

    /// `--sort`: columns, each with a `-` or a `+` before it.
    pub fn sort(&mut self, list: &str) -> Done {
        if std::mem::replace(&mut self.sorted, true) {
            return Err(Refusal::Wrong);
        }
        for item in items(list)? {
            let down = item.starts_with('-');
            let name = item.strip_prefix(['-', '+']).unwrap_or(item);
            self.sort.push((column::what(name).ok_or(Refusal::Beyond)?, down));
        }
        Ok(())
    }

    /// The columns that come of it.
    pub fn columns(&self, bsd: bool) -> Result<Vec<Column>, Refusal> {
        if !self.own.is_empty() {
            if !self.unix.is_empty() || !self.bsd.is_empty() {
                return Err(Refusal::Wrong);
            }
            return Ok(match self.around {
                true => {
                    [named("pid"), self.own.clone(), named("state,tname,time,command")].concat()
                }
                false => self.own.clone(),
            });
        }
        match self.bsd.as_slice() {
            [] => self.made(bsd),
            [letter] if self.unix.is_empty() => Ok(named(match letter {
                'u' => USERS,
                'j' => JOBS,
                _ => LONG,
            })),
            // A mixture.
            _ => Err(Refusal::Beyond),
        }
    }

    /// UNIX's formats are made of parts.
    fn made(&self, bsd: bool) -> Result<Vec<Column>, Refusal> {
        let has = |letter| self.unix.contains(&letter);
        let (full, extra, long) = (has('f') || has('F'), has('F'), has('l'));
        let (sun, class) = (has('y'), has('c'));
        if sun && !long {
            return Err(Refusal::Wrong);
        }
        let mut names: Vec<&str> = Vec::new();
        let mut add = |when: bool, list: &[&'static str]| {
            if when {
                names.extend_from_slice(list);
            }
        };
        add(long && !sun, &["f"]);
        add(long, &["s"]);
        add(full, &["uid_hack"]);
        add(long && !full, &["uid"]);
        add(true, &["pid"]);
        add(full || long, &["ppid"]);
        add(has('j'), &["pgid", "sid"]);
        add(has('P'), &["psr"]);
        add((full || long) && !class, &["c"]);
        add(class, &["class", "pri"]);
        add(long && !class, &["opri", "ni"]);
        add(long, &[if sun { "rss" } else { "addr_1" }]);
        add(extra || long, &["sz"]);
        add(long, &["wchan"]);
        add(extra && !(long && sun), &["rss"]);
        add(extra && !has('P'), &["psr"]);
        add(full, &["stime"]);
        add(true, &["tname"]);
        match bsd {
            true => {
                add(!long, &["stat"]);
                add(true, &["bsdtime", if full || long { "cmd" } else { "args" }]);
            }
            false => add(true, &["time", if full { "cmd" } else { "ucmd" }]),
        }
        Ok(named(&names.join(",")))
    }
}
