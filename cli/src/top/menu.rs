//! Lists from which something is chosen: a signal, a column, a user, a node.

use super::app::App;
use super::column::{self, Column};
use super::table::{Health, Key};
use krg_sys::process::Signal;
use krg_types::limits::SIGNAL_NUMBER_MAX;
use std::collections::BTreeSet;

/// What a line of a menu stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Choice {
    /// A signal to be sent.
    Signal(i32),
    /// A column to sort by.
    Sort(Column),
    /// A user whose processes are shown; none: everybody's.
    User(Option<u32>),
    /// A node whose processes are shown; none: all.
    Node(Option<u32>),
    /// A node to move to; 0: home.
    Move(u32),
    /// Nothing.
    Leave,
}

/// A menu.
#[derive(Clone, Debug)]
pub struct Menu {
    /// What is asked.
    pub title: &'static str,
    /// Its lines.
    pub items: Vec<(String, Choice)>,
    /// The chosen one.
    pub at: usize,
    /// Those that it is about.
    pub targets: Vec<Key>,
    /// What was typed to find a line.
    pub typed: String,
}

impl Menu {
    fn new(title: &'static str, items: Vec<(String, Choice)>, chosen: Choice) -> Menu {
        let at = items.iter().position(|(_, choice)| *choice == chosen).unwrap_or(0);
        Menu { title, items, at, targets: Vec::new(), typed: String::new() }
    }

    /// Signals, beginning with TERM.
    pub fn signals(targets: Vec<Key>) -> Menu {
        let name = |number: i32| match Signal::try_from(number) {
            Ok(signal) => signal.as_str().to_owned(),
            Err(_) if number >= 34 => format!("SIGRTMIN+{}", number - 34),
            Err(_) => format!("SIG{number}"),
        };
        let item = |number| (format!("{number:>2} {}", name(number)), Choice::Signal(number));
        let numbers = (1..=SIGNAL_NUMBER_MAX).filter(|number| ![32, 33].contains(number));
        let items = std::iter::once((" 0 Cancel".into(), Choice::Leave)).chain(numbers.map(item));
        let term = Choice::Signal(Signal::SIGTERM as i32);
        Menu { targets, ..Menu::new("Send signal:", items.collect(), term) }
    }

    /// Columns.
    pub fn columns(app: &App) -> Menu {
        let name = |c: &Column| (format!("{:<8}{}", c.heading(), c.about()), Choice::Sort(*c));
        Menu::new(
            "Sort by:",
            column::ALL.iter().map(name).collect(),
            Choice::Sort(app.sorted_by()),
        )
    }

    /// Users that have processes.
    pub fn users(app: &mut App) -> Menu {
        let uids: BTreeSet<u32> = app.table.processes.iter().map(|p| p.view.euid).collect();
        let mut items: Vec<(String, Choice)> = uids
            .into_iter()
            .map(|uid| (app.users.name(uid).to_owned(), Choice::User(Some(uid))))
            .collect();
        items.sort_by(|a, b| a.0.cmp(&b.0));
        items.insert(0, ("All users".into(), Choice::User(None)));
        Menu::new("Show processes of:", items, Choice::User(app.wanted.user))
    }

    /// Nodes whose processes could be shown.
    pub fn nodes(app: &App) -> Menu {
        let mut items = nodes(app, |number| Choice::Node(Some(number)), |_| true);
        items.insert(0, ("All nodes".into(), Choice::Node(None)));
        Menu::new("Show processes of:", items, Choice::Node(app.wanted.node))
    }

    /// Nodes to which something could move.
    pub fn moves(app: &App, targets: Vec<Key>) -> Menu {
        let mut items = nodes(app, Choice::Move, |health| health == Health::Good);
        items.insert(0, ("   home".into(), Choice::Move(0)));
        items.insert(0, ("   Cancel".into(), Choice::Leave));
        Menu { targets, ..Menu::new("Move to:", items, Choice::Leave) }
    }

    /// Moves the choice.
    pub fn step(&mut self, by: isize) {
        let last = self.items.len().saturating_sub(1);
        self.at = self.at.saturating_add_signed(by).min(last);
        self.typed.clear();
    }

    /// A letter of what is looked for: the first line with a word that begins so.
    pub fn find(&mut self, c: char) {
        self.typed.push(c.to_ascii_lowercase());
        let begins = |text: &str| {
            let text = text.to_lowercase();
            let mut words = text.split_whitespace();
            words.any(|w| {
                w.starts_with(&self.typed)
                    || w.strip_prefix("sig").is_some_and(|w| w.starts_with(&self.typed))
            })
        };
        let exact = |text: &str| text.split_whitespace().next() == Some(&self.typed);
        let place = |is: &dyn Fn(&str) -> bool| self.items.iter().position(|(text, _)| is(text));
        match place(&exact).or_else(|| place(&begins)) {
            Some(at) => self.at = at,
            // Who types on begins anew.
            None if self.typed.chars().count() > 1 => {
                self.typed.clear();
                self.find(c);
            }
            None => self.typed.clear(),
        }
    }

    /// What is chosen now.
    pub fn choice(&self) -> Choice {
        self.items.get(self.at).map_or(Choice::Leave, |(_, choice)| *choice)
    }
}

fn nodes(
    app: &App,
    choice: impl Fn(u32) -> Choice,
    takes: impl Fn(Health) -> bool,
) -> Vec<(String, Choice)> {
    let nodes = app.table.nodes.iter().filter(|node| takes(node.health()));
    let name = |node: &super::table::Node| {
        let host = super::text::clean(node.view.hostname.as_bytes());
        (format!("{:>2} {host}", node.view.node), choice(node.view.node))
    };
    nodes.map(name).collect()
}
