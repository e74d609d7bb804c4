//! The nodes: a line for each, with its load and bars.

use crate::top::app::App;
use crate::top::pen::Pen;
use crate::top::table::{Health, Node};
use crate::top::text;
use crate::top::theme::Theme;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use std::time::Instant;

/// From this width on nodes stand in two columns, if one would be too long.
const TWO_COLUMNS: u16 = 160;
/// A bar is no longer than this.
const BAR_MAX: usize = 42;

/// Lines of `most` that the nodes take.
pub fn lines(app: &App, width: u16, most: u16) -> u16 {
    let count = u16::try_from(app.table.nodes.len()).unwrap_or(u16::MAX);
    let fits = most.saturating_sub(1);
    let (columns, _) = columns(width, count, fits);
    match count {
        0 => 0,
        _ if fits == 0 => 0,
        _ => count.div_ceil(columns).min(fits) + 1,
    }
}

/// How many columns of nodes there are, and how wide each is.
fn columns(width: u16, count: u16, lines: u16) -> (u16, u16) {
    match width >= TWO_COLUMNS && count > lines {
        true => (2, width / 2),
        false => (1, width),
    }
}

/// What of a line there is place for.
struct Parts {
    name: usize,
    loads: usize,
    bar: usize,
    swap: usize,
    net: bool,
    tasks: bool,
    age: bool,
}

impl Parts {
    fn of(width: usize, names: usize) -> Parts {
        let net = width >= 72;
        let age = width >= 48;
        let wide = width >= 130;
        let name = names.min(if wide { 24 } else { 10 });
        let loads = if wide { 3 } else { 1 };
        let fixed = 5 + name + 1 + 6 * loads + 1;
        let after = usize::from(net) * 12 + usize::from(age) * 7 + usize::from(wide) * 11;
        let left = width.saturating_sub(fixed + after);
        let swap = if wide { (left / 5).min(BAR_MAX / 2) } else { 0 };
        let bar = (left.saturating_sub(swap) / 2).saturating_sub(1).min(BAR_MAX);
        Parts { name, loads, bar, swap, net, tasks: wide, age }
    }
}

/// Draws them; those that do not fit are counted in the last line.
pub fn draw(app: &App, theme: Theme, buf: &mut Buffer, area: Rect, now: Instant) {
    if area.height < 2 {
        return;
    }
    let nodes = &app.table.nodes;
    let count = u16::try_from(nodes.len()).unwrap_or(u16::MAX);
    let lines = area.height - 1;
    let (columns, width) = columns(area.width, count, lines);
    let places = usize::from(lines) * usize::from(columns);
    let waited = app.absent.is_some() || app.paused;
    let waited = app.at.filter(|_| waited).map(|at| now.saturating_duration_since(at));
    let waited = waited.map_or(0, super::ms);
    let names = nodes.iter().map(|node| text::width(&hostname(node))).max().unwrap_or(0).max(4);
    let parts = Parts::of(usize::from(width), names);
    for column in 0..columns {
        let area = Rect { x: area.x + column * width, width, ..area };
        heading(&parts, theme, &mut Pen::new(buf, area, 0));
    }
    // Whoever is not well must not be one of those that do not fit.
    let mut order: Vec<&Node> = nodes.iter().collect();
    let over = order.len() > places;
    if over {
        order.sort_by_key(|node| node.health() == Health::Good);
    }
    let shown = if over { places - 1 } else { order.len() };
    for (n, node) in order.iter().take(shown).enumerate() {
        let (column, line) = (n / usize::from(lines), n % usize::from(lines));
        let x = area.x + u16::try_from(column).unwrap_or(0) * width;
        let area = Rect { x, width, ..area };
        let line = u16::try_from(line).unwrap_or(0) + 1;
        draw_node(node, &parts, waited, theme, &mut Pen::new(buf, area, line));
    }
    if over {
        let x = area.x + (columns - 1) * width;
        let area = Rect { x, width, ..area };
        let words = format!("     and {} more (F2 shows them)", order.len() - shown);
        Pen::new(buf, area, lines).put(&words, theme.quiet());
    }
}

fn hostname(node: &Node) -> String {
    text::clean(node.view.hostname.as_bytes())
}

fn heading(parts: &Parts, theme: Theme, pen: &mut Pen<'_>) {
    let style = theme.quiet();
    pen.put_in("  NODE", 5 + parts.name, style);
    pen.gap(1);
    pen.put_right("LOAD", 6 * parts.loads, style);
    pen.gap(1);
    pen.put_in("CPU", parts.bar, style);
    pen.gap(1);
    pen.put_in("MEMORY", parts.bar, style);
    if parts.swap > 0 {
        pen.gap(1);
        pen.put_in("SWAP", parts.swap - 1, style);
    }
    if parts.net {
        pen.put_right("RECV", 6, style);
        pen.put_right("SENT", 6, style);
    }
    if parts.tasks {
        pen.put_right("RUN/ALL", 11, style);
    }
    if parts.age {
        pen.put_right("AGE", 7, style);
    }
}

fn draw_node(node: &Node, parts: &Parts, waited: u64, theme: Theme, pen: &mut Pen<'_>) {
    let health = node.health();
    let (text_style, mark) = match health {
        Health::Good => {
            (theme.text(), if node.view.here { theme.strong() } else { theme.text() })
        }
        Health::Stale => (theme.quiet(), theme.bad()),
        Health::Dead => (theme.quiet(), theme.bad()),
    };
    pen.put_right(&node.view.node.to_string(), 3, mark);
    pen.put_in(if node.view.here { "*" } else { "" }, 2, mark);
    pen.put_in(&hostname(node), parts.name, mark);
    pen.gap(1);
    if health == Health::Dead {
        pen.put_right("down", 6, theme.bad());
        return pen.put("  nothing is known of it", theme.quiet());
    }
    for n in 0..parts.loads {
        let load = node.view.load_hundredths.get(n).copied().unwrap_or(0);
        let load = f64::from(load) / 100.0;
        let digits = if load < 100.0 { 2 } else { 0 };
        pen.put_right(&format!("{load:.digits$}"), 6, text_style);
    }
    pen.gap(1);
    let stale = health == Health::Stale;
    let style = |style| if stale { theme.quiet() } else { style };
    let busy = node.busy.unwrap_or(0.0);
    let words = node.busy.map_or("-".into(), |busy| format!("{:.1}%", busy * 100.0));
    pen.bar(busy, &words, parts.bar, style(theme.busy(busy)), text_style);
    pen.gap(1);
    memory(node.memory(), parts.bar, theme, stale, pen);
    if parts.swap > 0 {
        pen.gap(1);
        memory(node.swap(), parts.swap - 1, theme, stale, pen);
    }
    if parts.net {
        let rate = |rate: Option<f64>| rate.map_or("-".into(), |rate| text::size(rate as u64));
        pen.put_right(&rate(node.net.map(|net| net.0)), 6, text_style);
        pen.put_right(&rate(node.net.map(|net| net.1)), 6, text_style);
    }
    if parts.tasks {
        pen.put_right(&format!("{}/{}", node.tasks.1, node.tasks.0), 11, text_style);
    }
    if parts.age {
        let age = u64::from(node.view.age_ms).saturating_add(waited);
        let style = if stale { theme.bad() } else { theme.quiet() };
        pen.put_right(&text::age(age), 7, style);
    }
}

fn memory(of: (u64, u64), columns: usize, theme: Theme, stale: bool, pen: &mut Pen<'_>) {
    let (used, total) = of;
    let share = used as f64 / total.max(1) as f64;
    let words = if total == 0 {
        "none".to_owned()
    } else {
        format!("{}/{}", text::size(used), text::size(total))
    };
    let (style, frame) = match stale {
        true => (theme.quiet(), theme.quiet()),
        false => (theme.memory(share), theme.text()),
    };
    pen.bar(share, &words, columns, style, frame);
}
