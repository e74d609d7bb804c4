//! What the screen shows and what is selected there: everything but drawing and asking.

use super::column::{Column, Users};
use super::list::{self, Row, Wanted};
use super::menu::Menu;
use super::source::Snapshot;
use super::table::{Key, Process, Table};
use std::collections::HashSet;
use std::time::Instant;

/// How much of the nodes is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Panel {
    /// At most a third of the screen.
    Some,
    /// As many as the screen holds.
    All,
    /// Only their sum.
    None,
}

/// Who gets the keys.
#[derive(Debug)]
pub enum Mode {
    /// The table.
    Normal,
    /// A text is searched for, from the line where it began.
    Search(String),
    /// A text is typed that lines must have; the one before comes back with Esc.
    Filter {
        /// The text before.
        before: String,
    },
    /// Something is chosen.
    Menu(Menu),
    /// The keys are told, from this line on.
    Help(u16),
}

/// A line of words for the user.
#[derive(Clone, Debug)]
pub struct Told {
    /// The words.
    pub words: String,
    /// It is bad news.
    pub bad: bool,
    /// When.
    pub at: Instant,
}

/// Everything that is shown.
#[derive(Debug)]
pub struct App {
    /// What is there.
    pub table: Table,
    /// When that was told.
    pub at: Option<Instant>,
    /// Why nothing newer is.
    pub absent: Option<String>,
    /// The lines of the table.
    pub rows: Vec<Row>,
    /// What is shown.
    pub wanted: Wanted,
    /// Sorted by this.
    pub sort: Column,
    /// The other way round.
    pub inverted: bool,
    /// As a tree.
    pub tree: bool,
    /// There siblings are sorted by this: by what does not change, or the tree would be restless.
    pub tree_sort: Column,
    /// Programs with their directories.
    pub paths: bool,
    /// Nothing new is shown.
    pub paused: bool,
    /// The selected line stays with its process.
    pub follow: bool,
    /// The selected line.
    pub cursor: usize,
    /// Its process.
    pub selected: Option<Key>,
    /// The first line on the screen.
    pub first: usize,
    /// Lines on the screen.
    pub page: usize,
    /// Columns of the commands to the left of the screen.
    pub shift: usize,
    /// Tagged processes.
    pub tags: HashSet<Key>,
    /// Processes whose children are not shown.
    pub folded: HashSet<Key>,
    /// The nodes' part.
    pub panel: Panel,
    /// Who gets the keys.
    pub mode: Mode,
    /// Digits of a number that is typed.
    pub digits: String,
    /// What was searched for last.
    pub sought: String,
    /// What was said last.
    pub told: Option<Told>,
    /// Names of users.
    pub users: Users,
}

impl App {
    /// Nothing is known yet.
    pub fn new(wanted: Wanted, sort: Column, inverted: bool, tree: bool) -> App {
        App {
            table: Table::default(),
            at: None,
            absent: None,
            rows: Vec::new(),
            wanted,
            sort,
            inverted,
            tree,
            tree_sort: Column::Pid,
            paths: true,
            paused: false,
            follow: false,
            cursor: 0,
            selected: None,
            first: 0,
            page: 1,
            shift: 0,
            tags: HashSet::new(),
            folded: HashSet::new(),
            panel: Panel::Some,
            mode: Mode::Normal,
            digits: String::new(),
            sought: String::new(),
            told: None,
            users: Users::default(),
        }
    }

    /// Takes the next look, or that there is none.
    pub fn look(&mut self, looked: anyhow::Result<Snapshot>, now: Instant) {
        match looked {
            Ok(_) if self.paused => self.absent = None,
            Ok(snapshot) => {
                self.absent = None;
                self.at = Some(now);
                self.table.update(snapshot);
                let here = self.table.nodes.iter().find(|node| node.view.here);
                self.wanted.here = here.map_or(0, |node| node.view.node);
                if !self.tags.is_empty() || !self.folded.is_empty() {
                    let all = self.table.processes.iter();
                    let known: HashSet<Key> = all.map(Process::key).collect();
                    self.tags.retain(|key| known.contains(key));
                    self.folded.retain(|key| known.contains(key));
                }
                // Who chooses what is done to the selected one must not lose it.
                let held = self.follow || matches!(self.mode, Mode::Menu(_) | Mode::Search(_));
                self.arrange(held);
            }
            Err(e) => self.absent = Some(format!("{e:#}")),
        }
    }

    /// Makes the lines anew; `held`: the selected one stays with its process.
    pub fn arrange(&mut self, held: bool) {
        let (all, wanted) = (&self.table.processes, &self.wanted);
        self.rows = match self.tree {
            true => list::tree(all, wanted, self.tree_sort, self.inverted, &self.folded),
            false => list::flat(all, wanted, self.sort, self.inverted),
        };
        let selected = self.selected.filter(|_| held);
        let again = selected.and_then(|key| {
            self.rows.iter().position(|row| all[row.index as usize].key() == key)
        });
        self.go(again.unwrap_or(self.cursor));
    }

    /// Selects a line, the nearest that there is.
    pub fn go(&mut self, to: usize) {
        self.cursor = to.min(self.rows.len().saturating_sub(1));
        self.selected = self.process(self.cursor).map(Process::key);
        self.scroll();
    }

    /// Has the selected line be on a screen of `page` lines.
    pub fn scroll(&mut self) {
        let page = self.page.max(1);
        let last = self.rows.len().saturating_sub(page);
        self.first = self.first.min(last).min(self.cursor);
        self.first = self.first.max((self.cursor + 1).saturating_sub(page));
    }

    /// What the lines are sorted by now.
    pub fn sorted_by(&self) -> Column {
        if self.tree { self.tree_sort } else { self.sort }
    }

    /// The process of a line.
    pub fn process(&self, row: usize) -> Option<&Process> {
        self.table.processes.get(self.rows.get(row)?.index as usize)
    }

    /// Those that something is done to: the tagged ones, or else the selected one.
    pub fn targets(&self) -> Vec<Key> {
        let mut tagged: Vec<Key> = self.tags.iter().copied().collect();
        tagged.sort_by_key(|key| key.pid);
        if tagged.is_empty() { self.selected.into_iter().collect() } else { tagged }
    }

    /// Of these, who is still there.
    pub fn alive(&self, keys: &[Key]) -> Vec<Process> {
        let keys: HashSet<&Key> = keys.iter().collect();
        let all = self.table.processes.iter();
        all.filter(|process| keys.contains(&process.key())).cloned().collect()
    }

    /// Tags the selected one, or takes its tag.
    pub fn tag(&mut self) {
        if let Some(key) = self.selected {
            if !self.tags.remove(&key) {
                self.tags.insert(key);
            }
            self.go(self.cursor + 1);
        }
    }

    /// Tags the selected one and all below it.
    pub fn tag_family(&mut self) {
        if let Some(row) = self.rows.get(self.cursor).copied() {
            let all = &self.table.processes;
            let keys = list::family(all, row.index);
            self.tags.extend(keys.into_iter().map(|at| all[at as usize].key()));
        }
    }

    /// Folds or unfolds what is below the selected one; `None`: the other of both.
    pub fn fold(&mut self, fold: Option<bool>) {
        let Some(key) = self.selected.filter(|_| self.tree) else { return };
        let folds = fold.unwrap_or(!self.folded.contains(&key));
        match folds {
            true => self.folded.insert(key),
            false => self.folded.remove(&key),
        };
        self.arrange(true);
    }

    /// Folds all that stand at the top, or unfolds everything.
    pub fn fold_all(&mut self) {
        if self.folded.is_empty() {
            let tops = self.rows.iter().filter(|row| row.depth == 0);
            let keys = tops.map(|row| self.table.processes[row.index as usize].key());
            self.folded = keys.collect();
        } else {
            self.folded.clear();
        }
        self.arrange(true);
    }

    /// Sorts by a column; by the same one once more: the other way round.
    pub fn sort_by(&mut self, column: Column) {
        self.inverted = self.sort == column && !self.inverted;
        self.sort = column;
        self.tree = false;
        self.arrange(self.follow);
    }

    /// Selects the next line from `from` on that has the text; is there one?
    pub fn search(&mut self, text: &str, from: usize, backwards: bool) -> bool {
        let (lower, count) = (text.to_lowercase().into_bytes(), self.rows.len());
        if lower.is_empty() || count == 0 {
            return lower.is_empty();
        }
        let place = |n: usize| match backwards {
            false => (from + n) % count,
            true => (from % count + count - n) % count,
        };
        let found = (0..count)
            .map(place)
            .find(|row| self.process(*row).is_some_and(|process| list::has(process, &lower)));
        found.inspect(|row| self.go(*row)).is_some()
    }

    /// Selects the process with this number, or the one whose own number on its node it is.
    pub fn find_pid(&mut self) {
        let Ok(number) = self.digits.parse::<u32>() else { return };
        let is_pid = |row: &Row| self.table.processes[row.index as usize].view.pid == number;
        let is_local =
            |row: &Row| self.table.processes[row.index as usize].view.local_pid == number;
        let found = self.rows.iter().position(is_pid).or(self.rows.iter().position(is_local));
        if let Some(row) = found {
            self.go(row);
        }
    }

    /// Says something to the user.
    pub fn tell(&mut self, words: String, bad: bool) {
        self.told = Some(Told { words, bad, at: Instant::now() });
    }
}
