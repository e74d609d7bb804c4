//! What each key does.

use super::app::{App, Mode, Panel};
use super::column::Column;
use super::menu::{Choice, Menu};
use super::table::{Key, Process};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// What a key asks for beyond the model.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Act {
    /// Nothing.
    None,
    /// The end.
    Quit,
    /// The shell is wanted for a while.
    Suspend,
    /// The screen may have been written on by others.
    Redraw,
    /// A look now.
    Look,
    /// A signal to processes.
    Kill(Vec<Key>, i32),
    /// New nice values for processes.
    Renice(Vec<(Key, i32)>),
    /// Processes to another node; 0: home.
    Migrate(Vec<Key>, u32),
}

/// What a key does now.
pub fn press(app: &mut App, key: KeyEvent) -> Act {
    if key.kind == KeyEventKind::Release {
        return Act::None;
    }
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match (key.code, control) {
        (KeyCode::Char('c'), true) => return Act::Quit,
        (KeyCode::Char('z'), true) => return Act::Suspend,
        (KeyCode::Char('l'), true) => return Act::Redraw,
        // No other is a letter of a text.
        (KeyCode::Char(_), true) if !matches!(app.mode, Mode::Normal) => return Act::None,
        _ => {}
    }
    let act = match &app.mode {
        Mode::Normal => normal(app, key.code, control),
        Mode::Help(_) => help(app, key.code),
        Mode::Menu(_) => menu(app, key.code),
        Mode::Search(_) => search(app, key.code),
        Mode::Filter { .. } => filter(app, key.code),
    };
    if !matches!(key.code, KeyCode::Char('0'..='9')) {
        app.digits.clear();
    }
    act
}

fn normal(app: &mut App, code: KeyCode, control: bool) -> Act {
    if let Some(to) = place(app, code, control) {
        app.go(to);
        return Act::None;
    }
    if control {
        return Act::None;
    }
    match code {
        KeyCode::Char('q') | KeyCode::F(10) => return Act::Quit,
        KeyCode::Char('h' | '?') | KeyCode::F(1) => app.mode = Mode::Help(0),
        KeyCode::Char('S') | KeyCode::F(2) => next_panel(app),
        KeyCode::Char('/') | KeyCode::F(3) => app.mode = Mode::Search(String::new()),
        KeyCode::Char('\\') | KeyCode::F(4) => {
            app.mode = Mode::Filter { before: app.wanted.text.clone() };
        }
        KeyCode::Char('<' | '>' | ',' | '.') | KeyCode::F(6) => {
            app.mode = Mode::Menu(Menu::columns(app));
        }
        KeyCode::Char(']') | KeyCode::F(7) => return renice(app, -1),
        KeyCode::Char('[') | KeyCode::F(8) => return renice(app, 1),
        KeyCode::Char('k') | KeyCode::F(9) => ask(app, |_, targets| Menu::signals(targets)),
        KeyCode::Char('m') => ask(app, Menu::moves),
        KeyCode::Char('u') => app.mode = Mode::Menu(Menu::users(app)),
        KeyCode::Char('n') => app.mode = Mode::Menu(Menu::nodes(app)),
        KeyCode::Char('N') => app.sort_by(Column::Pid),
        KeyCode::Char('P') => app.sort_by(Column::Cpu),
        KeyCode::Char('M') => app.sort_by(Column::Memory),
        KeyCode::Char('T') => app.sort_by(Column::Time),
        KeyCode::Char(' ') => app.tag(),
        KeyCode::Char('c') => app.tag_family(),
        KeyCode::Char('U') => app.tags.clear(),
        KeyCode::Char('F') => toggle(app, |app| &mut app.follow, "following the process"),
        KeyCode::Char('Z') => toggle(app, |app| &mut app.paused, "paused: Z goes on"),
        KeyCode::Char('p') => app.paths = !app.paths,
        KeyCode::Char('r') => return Act::Look,
        KeyCode::Left => app.shift = app.shift.saturating_sub(8),
        KeyCode::Right => app.shift = (app.shift + 8).min(4_096),
        KeyCode::Char(digit @ '0'..='9') => {
            app.digits.push(digit);
            app.digits.truncate(10);
            app.find_pid();
        }
        _ => arranging(app, code),
    }
    Act::None
}

/// Keys after which the lines are others.
fn arranging(app: &mut App, code: KeyCode) {
    match code {
        KeyCode::Char('t') | KeyCode::F(5) => app.tree = !app.tree,
        KeyCode::Char('I') => app.inverted = !app.inverted,
        KeyCode::Char('K') => app.wanted.no_kernel = !app.wanted.no_kernel,
        KeyCode::Char('+' | '=') => return app.fold(Some(false)),
        KeyCode::Char('-') => return app.fold(Some(true)),
        KeyCode::Char('*') => return app.fold_all(),
        KeyCode::Backspace if app.tree => return app.fold(None),
        _ => return,
    }
    app.arrange(true);
}

/// Where keys that only go somewhere lead to.
fn place(app: &App, code: KeyCode, control: bool) -> Option<usize> {
    let (at, page) = (app.cursor, app.page.max(1));
    Some(match code {
        KeyCode::Up => at.saturating_sub(1),
        KeyCode::Down => at + 1,
        KeyCode::Char('p') if control => at.saturating_sub(1),
        KeyCode::Char('n') if control => at + 1,
        KeyCode::PageUp => at.saturating_sub(page),
        KeyCode::Char('b') if control => at.saturating_sub(page),
        KeyCode::PageDown => at + page,
        KeyCode::Char('f') if control => at + page,
        KeyCode::Home => 0,
        KeyCode::End => usize::MAX,
        _ => return None,
    })
}

fn next_panel(app: &mut App) {
    app.panel = match app.panel {
        Panel::Some => Panel::All,
        Panel::All => Panel::None,
        Panel::None => Panel::Some,
    };
}

fn toggle(app: &mut App, what: impl Fn(&mut App) -> &mut bool, words: &str) {
    let value = what(app);
    *value = !*value;
    match *value {
        true => app.tell(words.into(), false),
        false => app.told = None,
    }
}

/// Opens a menu about the tagged processes, or the selected one.
fn ask(app: &mut App, menu: impl FnOnce(&App, Vec<Key>) -> Menu) {
    let targets = app.targets();
    if !targets.is_empty() {
        app.mode = Mode::Menu(menu(app, targets));
    }
}

fn renice(app: &App, by: i32) -> Act {
    let nicer = |process: &Process| {
        let nice = (process.view.nice + by).clamp(-20, 19);
        (nice != process.view.nice).then_some((process.key(), nice))
    };
    let wanted: Vec<(Key, i32)> = app.alive(&app.targets()).iter().filter_map(nicer).collect();
    if wanted.is_empty() { Act::None } else { Act::Renice(wanted) }
}

fn help(app: &mut App, code: KeyCode) -> Act {
    let Mode::Help(line) = &mut app.mode else { return Act::None };
    match code {
        KeyCode::Up => *line = line.saturating_sub(1),
        // How far it goes is seen when it is drawn.
        KeyCode::Down => *line = line.saturating_add(1),
        KeyCode::PageUp => *line = line.saturating_sub(10),
        KeyCode::PageDown => *line = line.saturating_add(10),
        _ => app.mode = Mode::Normal,
    }
    Act::None
}

fn menu(app: &mut App, code: KeyCode) -> Act {
    let page = isize::try_from(app.page.max(1)).unwrap_or(1);
    let Mode::Menu(menu) = &mut app.mode else { return Act::None };
    match code {
        KeyCode::Up => menu.step(-1),
        KeyCode::Down => menu.step(1),
        KeyCode::PageUp => menu.step(-page),
        KeyCode::PageDown => menu.step(page),
        KeyCode::Home => menu.step(isize::MIN),
        KeyCode::End => menu.step(isize::MAX),
        KeyCode::Char(c) => menu.find(c),
        KeyCode::Enter => {
            let (choice, targets) = (menu.choice(), std::mem::take(&mut menu.targets));
            app.mode = Mode::Normal;
            return chosen(app, choice, targets);
        }
        KeyCode::Esc | KeyCode::F(10) => app.mode = Mode::Normal,
        _ => {}
    }
    Act::None
}

fn chosen(app: &mut App, choice: Choice, targets: Vec<Key>) -> Act {
    match choice {
        Choice::Signal(signal) => return Act::Kill(targets, signal),
        Choice::Move(node) => return Act::Migrate(targets, node),
        Choice::Sort(column) => {
            // The same one again leaves it as it is.
            app.inverted &= app.sorted_by() == column;
            *(if app.tree { &mut app.tree_sort } else { &mut app.sort }) = column;
            app.arrange(app.follow);
        }
        Choice::User(user) => {
            app.wanted.user = user;
            app.arrange(true);
        }
        Choice::Node(node) => {
            app.wanted.node = node;
            app.arrange(true);
        }
        Choice::Leave => {}
    }
    Act::None
}

fn search(app: &mut App, code: KeyCode) -> Act {
    let Mode::Search(text) = &mut app.mode else { return Act::None };
    let (mut text, from) = (std::mem::take(text), app.cursor);
    match code {
        KeyCode::Char(c) => text.push(c),
        KeyCode::Backspace => {
            text.pop();
        }
        KeyCode::F(3) | KeyCode::Down | KeyCode::Up => {
            if text.is_empty() {
                text = app.sought.clone();
            }
            let (back, count) = (code == KeyCode::Up, app.rows.len().max(1));
            let next = if back { from + count - 1 } else { from + 1 };
            return found(app, text, next, back);
        }
        KeyCode::Esc | KeyCode::Enter => {
            app.sought = text;
            app.mode = Mode::Normal;
            return Act::None;
        }
        _ => {}
    }
    found(app, text, from, false)
}

fn found(app: &mut App, text: String, from: usize, back: bool) -> Act {
    if app.search(&text, from, back) {
        app.told = None;
    } else {
        app.tell(format!("no line has `{}`", crate::text::printable(&text)), true);
    }
    app.mode = Mode::Search(text);
    Act::None
}

fn filter(app: &mut App, code: KeyCode) -> Act {
    match (code, &app.mode) {
        (KeyCode::Char(c), _) => app.wanted.text.push(c),
        (KeyCode::Backspace, _) => {
            app.wanted.text.pop();
        }
        (KeyCode::Esc, Mode::Filter { before }) => {
            app.wanted.text = before.clone();
            app.mode = Mode::Normal;
        }
        (KeyCode::Enter | KeyCode::F(4), _) => app.mode = Mode::Normal,
        _ => return Act::None,
    }
    app.arrange(true);
    Act::None
}
