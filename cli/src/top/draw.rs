//! The screen: a line about the cluster, its nodes, the processes, the keys.

mod help;
mod nodes;
mod processes;

use super::app::{App, Mode, Panel};
use super::menu::Menu;
use super::pen::Pen;
use super::table::Health;
use super::text;
use super::theme::Theme;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use std::time::{Duration, Instant};

/// How long something that was said stays, if no key is pressed.
const TOLD: Duration = Duration::from_secs(8);
/// The processes have this many lines at least, heading included, if the screen has them.
const LIST_MIN: u16 = 6;

/// What the function keys are for; further keys where the screen is wide.
const LABELS: [(&str, &str); 10] = [
    ("F1", "Help  "),
    ("F2", "Nodes "),
    ("F3", "Search"),
    ("F4", "Filter"),
    ("F5", "Tree  "),
    ("F6", "SortBy"),
    ("F7", "Nice -"),
    ("F8", "Nice +"),
    ("F9", "Kill  "),
    ("F10", "Quit"),
];
const MORE_LABELS: [(&str, &str); 6] = [
    ("m", "Move"),
    ("n", "Node"),
    ("u", "User"),
    ("Spc", "Tag"),
    ("F", "Follow"),
    ("Z", "Pause"),
];

/// Draws everything into an area.
pub fn draw(app: &mut App, theme: Theme, buf: &mut Buffer, area: Rect, now: Instant) {
    if area.width == 0 || area.height == 0 {
        return;
    }
    if let Mode::Help(line) = &mut app.mode {
        return help::draw(line, theme, buf, area);
    }
    let [mut top, mut body, bottom] = [area; 3];
    top.height = 1;
    let footer = u16::from(area.height > 2);
    let lines = nodes::lines(app, area.width, panel(app, area.height));
    summary(app, theme, &mut Pen::new(buf, top, 0), now);
    nodes::draw(app, theme, buf, Rect { y: area.y + 1, height: lines, ..area }, now);
    body.y = area.y + 1 + lines;
    body.height = area.height.saturating_sub(1 + lines + footer);
    if let Mode::Menu(menu) = &app.mode {
        let columns = menu_columns(menu, area.width);
        draw_menu(menu, theme, buf, Rect { width: columns, ..body });
        let columns = (columns + 1).min(area.width);
        body = Rect { x: body.x + columns, width: area.width - columns, ..body };
    }
    processes::draw(app, theme, buf, body);
    if footer > 0 {
        let line = Rect { y: area.y + area.height - 1, height: 1, ..bottom };
        draw_footer(app, theme, &mut Pen::new(buf, line, 0), now);
    }
}

/// Lines that the nodes may have.
fn panel(app: &App, height: u16) -> u16 {
    let most = height.saturating_sub(2 + LIST_MIN);
    match app.panel {
        Panel::None => 0,
        Panel::All => most,
        Panel::Some => most.min(height / 3).max(most.min(4)),
    }
}

/// What the whole is.
fn summary(app: &App, theme: Theme, pen: &mut Pen<'_>, now: Instant) {
    let nodes = &app.table.nodes;
    let count = |health| nodes.iter().filter(|node| node.health() == health).count();
    let plural =
        |n: usize, one: &str, more: &str| format!("{n} {}", if n == 1 { one } else { more });
    pen.put(" krg top", theme.strong());
    if let Some(why) = &app.absent {
        let age = app.at.map(|at| text::age(ms(now.saturating_duration_since(at))));
        let words = match age {
            Some(age) => format!("  as it was {age} ago: {why}"),
            None => format!("  {why}"),
        };
        return pen.put(&text::clean(words.as_bytes()), theme.bad());
    }
    if app.at.is_none() {
        return pen.put("  asking...", theme.quiet());
    }
    pen.put("  ", theme.text());
    if pen.left() > 80 {
        pen.put(&text::clean(app.table.cluster.as_bytes()), theme.good());
        pen.put(": ", theme.text());
    }
    pen.put(&plural(nodes.len(), "node", "nodes"), theme.text());
    for (health, word) in [(Health::Stale, "stale"), (Health::Dead, "down")] {
        if count(health) > 0 {
            pen.put(&format!(", {} {word}", count(health)), theme.bad());
        }
    }
    let cpus: u32 = nodes.iter().map(|node| node.view.cpus).sum();
    let tasks = app.table.processes.len();
    let running: u32 = nodes.iter().map(|node| node.tasks.1).sum();
    pen.put(&format!("  {}", plural(cpus as usize, "cpu", "cpus")), theme.text());
    pen.put(&format!("  {}", plural(tasks, "process", "processes")), theme.text());
    pen.put(&format!(", {running} running"), theme.text());
    for word in shown(app) {
        pen.put("  ", theme.text());
        pen.put(&word, theme.good());
    }
}

/// What is not as usual in what is shown.
fn shown(app: &App) -> Vec<String> {
    let mut words = Vec::new();
    let wanted = &app.wanted;
    if app.rows.len() < app.table.processes.len() && app.folded.is_empty() {
        words.push(format!("{} shown", app.rows.len()));
    }
    if let Some(node) = wanted.node {
        words.push(format!("node {node} only"));
    }
    if !app.tags.is_empty() {
        words.push(format!("{} tagged", app.tags.len()));
    }
    words.extend(app.paused.then(|| "paused".to_owned()));
    words.extend(app.follow.then(|| "following".to_owned()));
    words
}

fn menu_columns(menu: &Menu, width: u16) -> u16 {
    let widest = menu.items.iter().map(|(name, _)| text::width(name)).max().unwrap_or(0);
    let wanted = (widest + 2).max(text::width(menu.title) + 1);
    u16::try_from(wanted).unwrap_or(u16::MAX).min(width / 2).max(width.min(10))
}

fn draw_menu(menu: &Menu, theme: Theme, buf: &mut Buffer, area: Rect) {
    let mut pen = Pen::new(buf, area, 0);
    pen.put(menu.title, theme.heading());
    pen.fill(theme.heading());
    let lines = usize::from(area.height.saturating_sub(1)).max(1);
    let first = (menu.at + 1).saturating_sub(lines);
    for (line, at) in (1..area.height).zip(first..menu.items.len()) {
        let style = if at == menu.at { theme.selected() } else { theme.text() };
        let mut pen = Pen::new(buf, area, line);
        pen.put(" ", style);
        pen.put(&menu.items[at].0, style);
        pen.fill(style);
    }
}

fn draw_footer(app: &App, theme: Theme, pen: &mut Pen<'_>, now: Instant) {
    let told = app.told.as_ref().filter(|told| now.saturating_duration_since(told.at) < TOLD);
    let prompt = match &app.mode {
        Mode::Search(text) => Some(("Search: ", text, "  F3 next  Esc ends")),
        Mode::Filter { .. } => {
            Some(("Filter: ", &app.wanted.text, "  Enter keeps it  Esc as before"))
        }
        _ => None,
    };
    if let Some((label, typed, keys)) = prompt {
        pen.put(label, theme.heading());
        // The end of what is typed is what is looked at.
        let typed = text::clean(typed.as_bytes());
        let over = (text::width(&typed) + 1).saturating_sub(pen.left());
        pen.put(text::skip(&typed, over), theme.text());
        pen.put(" ", theme.selected());
        return match told {
            Some(told) => pen.put(&format!("  {}", told.words), theme.bad()),
            None => pen.put(keys, theme.quiet()),
        };
    }
    if let Some(told) = told {
        let style = if told.bad { theme.bad() } else { theme.good() };
        return pen.put(&format!(" {}", text::clean(told.words.as_bytes())), style);
    }
    if let Mode::Menu(menu) = &app.mode {
        let about = match menu.targets[..] {
            [] => "chooses".to_owned(),
            [one] => format!("does it with process {}", one.pid),
            _ => format!("does it with {} processes", menu.targets.len()),
        };
        pen.put(" Enter ", theme.strong());
        pen.put(&about, theme.text());
        pen.put("   Esc ", theme.strong());
        return pen.put("leaves it", theme.text());
    }
    for (key, label) in LABELS {
        pen.put(key, theme.text());
        pen.put(label, theme.heading());
    }
    for (key, label) in MORE_LABELS {
        // Half a label is none.
        if pen.left() > 4 + key.len() + label.len() {
            pen.put(&format!("  {key} "), theme.strong());
            pen.put(label, theme.text());
        }
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
