//! A bar for each node, the scale at their left, and their numbers below them.

use crate::top::pen::Pen;
use crate::top::table::{Health, Node, Table};
use crate::top::text;
use crate::top::theme::Theme;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use std::time::Instant;

/// MOSIX's number for a processor of 400 MHz.
const SPEED: f64 = 10_000.0;
/// Columns of the scale, its line included.
const SCALE: u16 = 9;
/// Columns of a bar with the space after it, where there is place.
const WIDEST: u16 = 10;
/// Eighths of a cell.
const EIGHTHS: [&str; 8] = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇"];

/// What the bars are as high as.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Height {
    /// Processes that run or could, for each processor, over the last minute.
    #[default]
    Load,
    /// The same; above the bars the number of processes that run now.
    LoadAndCount,
    /// Speed.
    Speed,
    /// Memory in use.
    Memory,
    /// The same with what caches use.
    RawMemory,
    /// Busy share of the processors.
    Use,
}

/// How wide the bars are, by how their numbers stand.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Numbers {
    /// Beside each other.
    Wide,
    /// Their digits below each other.
    Vertical,
    /// The same, without space between.
    Dense,
    /// The widest of these in which all nodes have place.
    #[default]
    Fitting,
}

/// What is shown.
#[derive(Clone, Default, Debug)]
pub struct Chart {
    /// What the bars are as high as.
    pub height: Height,
    /// How wide they are.
    pub numbers: Numbers,
    /// With nodes that are down.
    pub dead: bool,
    /// With the sums.
    pub status: bool,
    /// The first node that is shown, by its number.
    pub first_node: u32,
    /// The keys are told.
    pub help: bool,
    /// When the bars were new.
    pub at: Option<Instant>,
    /// Numbers of those that are shown, and how many have place at once.
    known: Vec<u32>,
    places: usize,
}

impl Chart {
    /// Begins further to the right or the left.
    pub fn scroll(&mut self, by: isize) {
        let at = self.known.iter().position(|node| *node >= self.first_node).unwrap_or(0);
        let last = self.known.len().saturating_sub(1);
        let to = at.saturating_add_signed(by).min(last);
        self.first_node = self.known.get(to).copied().unwrap_or(1);
    }

    /// One screen further.
    pub fn turn(&mut self, by: isize) {
        let places = isize::try_from(self.places.max(1)).unwrap_or(1);
        self.scroll(by.saturating_mul(places));
    }

    /// Draws it.
    pub fn draw(
        &mut self,
        table: &Table,
        absent: Option<&str>,
        theme: Theme,
        buf: &mut Buffer,
        area: Rect,
    ) {
        if self.help {
            return help(theme, buf, area);
        }
        let shown: Vec<&Node> =
            table.nodes.iter().filter(|n| self.dead || n.health() != Health::Dead).collect();
        self.known = shown.iter().map(|node| node.view.node).collect();
        let first = self.known.iter().position(|node| *node >= self.first_node).unwrap_or(0);
        self.title(absent, theme, &mut Pen::new(buf, area, 0));
        let bottom = u16::from(self.status);
        let digits = digits(&self.known);
        let (cell, numbers) = self.cell(shown.len(), digits, area.width);
        self.places = usize::from(area.width.saturating_sub(SCALE) / cell);
        let under = if numbers == Numbers::Wide { 1 } else { digits };
        let height = area.height.saturating_sub(2 + under + bottom);
        if height > 0 && self.places > 0 {
            let shown: Vec<&Node> =
                shown[first.min(shown.len())..].iter().take(self.places).copied().collect();
            let bars = Rect { y: area.y + 1, height, ..area };
            self.bars(&shown, cell, theme, buf, bars);
            let under = Rect { y: bars.bottom(), height: under + 1, ..area };
            labels(&shown, cell, numbers, theme, buf, under);
        }
        if self.status {
            sums(table, theme, &mut Pen::new(buf, area, area.height.saturating_sub(1)));
        }
    }

    fn title(&self, absent: Option<&str>, theme: Theme, pen: &mut Pen<'_>) {
        let words = match self.height {
            Height::Load => "load for each cpu",
            Height::LoadAndCount => "load for each cpu, and how many run",
            Height::Speed => "speed (not measured: all are alike)",
            Height::Memory => "memory in use, of all",
            Height::RawMemory => "memory in use and caches, of all",
            Height::Use => "use of the cpus",
        };
        pen.put(" mosmon", theme.strong());
        if let Some(why) = absent {
            return pen.put(&format!("  {}", text::clean(why.as_bytes())), theme.bad());
        }
        pen.put(&format!("  {words}"), theme.text());
        if self.at.is_none() {
            pen.put("  asking...", theme.quiet());
        } else if pen.left() > 18 {
            pen.put("   h help  q end", theme.quiet());
        }
    }

    /// Columns of a bar with the space after it, and how the numbers stand.
    fn cell(&self, count: usize, digits: u16, width: u16) -> (u16, Numbers) {
        let wide = (digits + 2).max(5);
        let fits =
            |cell: u16| count * usize::from(cell) <= usize::from(width.saturating_sub(SCALE));
        match self.numbers {
            Numbers::Wide => (wide, Numbers::Wide),
            Numbers::Vertical => (2, Numbers::Vertical),
            Numbers::Dense => (1, Numbers::Dense),
            Numbers::Fitting if fits(wide) => {
                let each = usize::from(width.saturating_sub(SCALE)) / count.max(1);
                let each = u16::try_from(each).unwrap_or(u16::MAX);
                (each.min(WIDEST).max(wide), Numbers::Wide)
            }
            Numbers::Fitting if fits(2) => (2, Numbers::Vertical),
            Numbers::Fitting => (1, Numbers::Dense),
        }
    }

    /// A node's value, and what it could be at most, if there is such a thing.
    fn value(&self, node: &Node) -> (f64, Option<f64>) {
        let mib = |kib: u64| kib as f64 / 1024.0;
        let view = &node.view;
        match self.height {
            Height::Load | Height::LoadAndCount => {
                (node.load() / f64::from(view.cpus.max(1)), None)
            }
            Height::Speed => (SPEED, None),
            Height::Memory => {
                let (used, all) = node.memory();
                (mib(used / 1024), Some(mib(all / 1024)))
            }
            Height::RawMemory => {
                let used = view.mem_total_kib.saturating_sub(view.mem_free_kib);
                (mib(used), Some(mib(view.mem_total_kib)))
            }
            Height::Use => (node.busy.unwrap_or(0.0) * 100.0, Some(100.0)),
        }
    }

    /// What a place of the scale is called.
    fn mark(&self, value: f64) -> String {
        match self.height {
            Height::Load | Height::LoadAndCount => format!("{value:.2}"),
            Height::Speed => format!("{value:.0}"),
            Height::Memory | Height::RawMemory => text::size((value * 1_048_576.0) as u64),
            Height::Use => format!("{value:.0}%"),
        }
    }

    fn bars(&self, shown: &[&Node], cell: u16, theme: Theme, buf: &mut Buffer, area: Rect) {
        let values: Vec<(f64, Option<f64>)> = shown.iter().map(|node| self.value(node)).collect();
        let highest = values.iter().map(|(value, most)| most.unwrap_or(*value));
        let top = scale_end(highest.fold(0.0, f64::max), self.height);
        // Above the highest bar there is a line for its number.
        let all = area;
        let room = u16::from(self.height == Height::LoadAndCount && area.height > 1);
        let area = Rect { y: area.y + room, height: area.height - room, ..area };
        let height = f64::from(area.height);
        let marks = marks(area.height);
        for line in 0..area.height {
            let up = area.height - line;
            let mut pen = Pen::new(buf, area, line);
            let mark = marks.iter().find(|(at, _)| *at == up);
            let words = mark.map_or(String::new(), |(_, part)| self.mark(top * part));
            pen.put_right(&words, usize::from(SCALE) - 2, theme.quiet());
            pen.put(if mark.is_some() { "┤" } else { "│" }, theme.quiet());
            pen.gap(1);
            for (node, (value, most)) in shown.iter().zip(&values) {
                let columns = usize::from((cell - 1).max(1));
                let level = |value: f64| value / top * height - f64::from(up - 1);
                let full = eighths(level(*value));
                let rest = most.map_or(0, |most| eighths(level(most)));
                let health = node.health();
                let style = match health {
                    Health::Stale => theme.quiet(),
                    _ => theme.busy(if self.height == Height::Use { value / 100.0 } else { 0.0 }),
                };
                match (health, full, rest) {
                    (Health::Dead, ..) => {
                        let letter = "DEAD".get(usize::from(4 - up.min(4))..);
                        let letter = letter.filter(|_| up <= 4).and_then(|rest| rest.get(..1));
                        pen.put_in(letter.unwrap_or(" "), columns, theme.bad());
                    }
                    (_, 8, _) => pen.put(&"█".repeat(columns), style),
                    (_, 0, 4..) => pen.put(&"░".repeat(columns), theme.quiet()),
                    (_, part, _) => pen.put(&EIGHTHS[part].repeat(columns), style),
                }
                pen.gap(usize::from(cell) - columns);
            }
        }
        if self.height == Height::LoadAndCount {
            let levels = values.iter().map(|(value, _)| (value / top * height).ceil() as u16);
            for (n, (node, level)) in (0u16..).zip(shown.iter().zip(levels)) {
                let line = all.height.saturating_sub(level + 1);
                let x = (all.x + SCALE).saturating_add(n.saturating_mul(cell));
                let place = Rect { x, width: cell, ..all }.intersection(all);
                let count = node.tasks.1.to_string();
                Pen::new(buf, place, line).put(&count, theme.strong());
            }
        }
    }
}

/// Where the scale has a mark: so many lines up, which is this part of it.
fn marks(height: u16) -> Vec<(u16, f64)> {
    let count = if height >= 8 { 4 } else { height.min(2) };
    let part = |n: u16| f64::from(n) / f64::from(count);
    (1..=count).map(|n| ((part(n) * f64::from(height)).round() as u16, part(n))).collect()
}

/// Of a cell: what of a bar is in it.
fn eighths(level: f64) -> usize {
    (level.clamp(0.0, 1.0) * 8.0).round() as usize
}

/// The end of a scale that holds this value: 1, 2 or 5 times a power of ten.
fn scale_end(highest: f64, height: Height) -> f64 {
    match height {
        Height::Use => return 100.0,
        // As full as it can be is the top.
        Height::Memory | Height::RawMemory => return highest.max(1.0),
        _ => {}
    }
    let highest = highest.max(1.0);
    let ten = 10f64.powf(highest.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * ten);
    steps.into_iter().find(|end| *end >= highest).unwrap_or(highest)
}

fn digits(nodes: &[u32]) -> u16 {
    let widest = nodes.iter().map(|node| node.to_string().len()).max().unwrap_or(1);
    u16::try_from(widest).unwrap_or(1)
}

/// The line under the bars, and the numbers.
fn labels(
    shown: &[&Node],
    cell: u16,
    numbers: Numbers,
    theme: Theme,
    buf: &mut Buffer,
    area: Rect,
) {
    let mut pen = Pen::new(buf, area, 0);
    pen.put_right("0", usize::from(SCALE) - 2, theme.quiet());
    pen.put("└", theme.quiet());
    pen.put(&"─".repeat(1 + shown.len() * usize::from(cell)), theme.quiet());
    let columns = usize::from((cell - 1).max(1));
    for line in 1..area.height {
        let mut pen = Pen::new(buf, area, line);
        pen.put_in(if line == 1 { " node" } else { "" }, usize::from(SCALE), theme.quiet());
        for node in shown {
            let number = node.view.node.to_string();
            let style = match (node.health(), node.view.here) {
                (Health::Good, true) => theme.strong(),
                (Health::Good, false) => theme.text(),
                _ => theme.bad(),
            };
            match numbers {
                Numbers::Wide => {
                    let pad = columns.saturating_sub(number.len()) / 2;
                    pen.gap(pad);
                    pen.put_in(&number, columns - pad, style);
                }
                _ => {
                    let digit = number.get(usize::from(line) - 1..).and_then(|n| n.get(..1));
                    pen.put(digit.unwrap_or(" "), style);
                    pen.gap(columns - 1);
                }
            }
            pen.gap(usize::from(cell) - columns);
        }
    }
}

fn sums(table: &Table, theme: Theme, pen: &mut Pen<'_>) {
    let (good, rest): (Vec<&Node>, Vec<&Node>) =
        table.nodes.iter().partition(|node| node.health() == Health::Good);
    let cpus: u32 = good.iter().map(|node| node.view.cpus).sum();
    let memory = good.iter().map(|node| node.memory());
    let (used, all) = memory
        .fold((0u64, 0u64), |sum, of| (sum.0.saturating_add(of.0), sum.1.saturating_add(of.1)));
    let words = format!(
        " nodes {} of {}  cpus {cpus}  memory {} of {}",
        good.len(),
        good.len() + rest.len(),
        text::size(used),
        text::size(all),
    );
    pen.put(&words, theme.heading());
    pen.fill(theme.heading());
}

const KEYS: [(&str, &str); 18] = [
    ("l", "load for each cpu"),
    ("L", "the same, and how many processes run"),
    ("s", "speed"),
    ("m", "memory in use, of all"),
    ("r", "the same with what only caches use"),
    ("u", "use of the cpus"),
    ("", ""),
    ("w", "wide"),
    ("v", "narrow: the numbers' digits below each other"),
    ("V", "the same, without space"),
    ("a", "as wide as there is place for"),
    ("d D", "with nodes that are down, without"),
    ("t", "the line with the sums, or none"),
    ("", ""),
    ("Left Right", "one node further; n p: one screen"),
    ("Enter", "draw anew"),
    ("h", "this; any key leaves it"),
    ("q", "end"),
];

fn help(theme: Theme, buf: &mut Buffer, area: Rect) {
    Pen::new(buf, area, 0).put(" mosmon: a bar for each node", theme.strong());
    for (line, (key, words)) in (2u16..).zip(KEYS) {
        let mut pen = Pen::new(buf, area, line);
        pen.put(" ", theme.text());
        pen.put_in(key, 12, theme.strong());
        pen.put(words, theme.text());
    }
}
