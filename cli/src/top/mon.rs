//! `mosmon`, `mon`: MOSIX's bars of the nodes, one for each, with its keys.

mod chart;

use super::screen::{self, Heard, Screen};
use super::source::Snapshot;
use super::table::Table;
use super::theme::Theme;
use anyhow::Result;
use chart::{Chart, Height, Numbers};
use clap::{CommandFactory, Parser};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use std::ffi::OsString;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// So often the bars are new.
const DELAY: Duration = Duration::from_secs(1);

/// Shows a bar for each node of the cluster (MOSIX's mosmon).
#[derive(Parser)]
#[command(name = "mosmon", version, disable_version_flag = true, after_help = EXAMPLES)]
struct Cli {
    /// Load: processes that run or could, for each cpu (the default)
    #[arg(short = 'l')]
    load: bool,
    /// The same, with the number of processes that run
    #[arg(short = 'L')]
    load_and_count: bool,
    /// Speed: 10000 for each node, as it is not measured here
    #[arg(short = 's')]
    speed: bool,
    /// Memory that is in use, of all
    #[arg(short = 'm')]
    memory: bool,
    /// The same, with what only caches use
    #[arg(short = 'r')]
    raw: bool,
    /// Use of the cpus, in percent
    #[arg(short = 'u')]
    use_of_cpus: bool,
    /// Wide: numbers of nodes beside each other
    #[arg(short = 'w')]
    wide: bool,
    /// Numbers of nodes with their digits below each other
    #[arg(short = 'v')]
    vertical: bool,
    /// The same, without space between the bars
    #[arg(short = 'V')]
    dense: bool,
    /// As wide as there is place for (the default)
    #[arg(short = 'a')]
    automatic: bool,
    /// Nodes that are down, too
    #[arg(short = 'd')]
    dead: bool,
    /// A line with the sums
    #[arg(short = 't')]
    status: bool,
    /// The first node that is shown
    #[arg(value_name = "NODE", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    node: u32,
}

const EXAMPLES: &str = "\
Examples:
  mosmon
  mosmon -m -t
  mosmon -d 100

Keys:
  l L s m r u       as the options
  w v V a           as the options
  d D               with nodes that are down, without
  t                 the line with the sums, or none
  Left Right        one node further; n p: one screen
  Enter             draw anew
  h                 the keys
  q                 end

Exit codes:
  0  it was ended by its keys
  1  it failed: the reason is on standard error
  2  the command line is wrong
";

/// The description that its man page is made from.
pub fn command() -> clap::Command {
    Cli::command()
}

enum Event {
    Heard(Heard),
    Looked(Result<Snapshot>),
}

impl From<Heard> for Event {
    fn from(heard: Heard) -> Event {
        Event::Heard(heard)
    }
}

impl From<Result<Snapshot>> for Event {
    fn from(looked: Result<Snapshot>) -> Event {
        Event::Looked(looked)
    }
}

/// Runs it.
pub fn run(argv: Vec<OsString>) -> Result<u8> {
    let mut chart = chart(&Cli::parse_from(argv));
    let signals = screen::hold_signals()?;
    let mut screen = Screen::take("mosmon")?;
    let (told, events) = mpsc::channel();
    screen::listen(signals, &told);
    let now = super::ask(DELAY, &told);
    let theme = Theme::from_env();
    let (mut table, mut absent) = (Table::default(), None);
    let end = loop {
        screen.terminal().draw(|frame| {
            let area = frame.area();
            chart.draw(&table, absent.as_deref(), theme, frame.buffer_mut(), area);
        })?;
        match events.recv()? {
            Event::Heard(Heard::Resized) => {}
            Event::Heard(Heard::Gone) => break None,
            Event::Heard(Heard::Ended(signal)) => break Some(signal),
            Event::Looked(Ok(look)) => {
                absent = None;
                table.update(look);
                chart.at = Some(Instant::now());
            }
            Event::Looked(Err(e)) => absent = Some(format!("{e:#}")),
            Event::Heard(Heard::Key(key)) => match press(&mut chart, key) {
                After::Goes => {}
                After::Redraws => {
                    screen.redraw()?;
                    let _ = now.send(());
                }
                After::Stops => screen.suspend()?,
                After::Ends => break None,
            },
        }
    };
    drop(screen);
    Ok(end.map_or(0, screen::die_by))
}

fn chart(cli: &Cli) -> Chart {
    let height = [
        (cli.load_and_count, Height::LoadAndCount),
        (cli.speed, Height::Speed),
        (cli.memory, Height::Memory),
        (cli.raw, Height::RawMemory),
        (cli.use_of_cpus, Height::Use),
    ];
    let numbers = [
        (cli.wide, Numbers::Wide),
        (cli.vertical, Numbers::Vertical),
        (cli.dense, Numbers::Dense),
    ];
    let mut chart = Chart::default();
    chart.height = height.iter().find(|(is, _)| *is).map_or(Height::Load, |(_, height)| *height);
    chart.numbers = numbers.iter().find(|(is, _)| *is).map_or(Numbers::Fitting, |(_, n)| *n);
    (chart.dead, chart.status, chart.first_node) = (cli.dead, cli.status, cli.node);
    chart
}

/// What becomes of it after a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum After {
    Goes,
    Redraws,
    Stops,
    Ends,
}

fn press(chart: &mut Chart, key: KeyEvent) -> After {
    if key.kind == KeyEventKind::Release {
        return After::Goes;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => After::Ends,
            KeyCode::Char('z') => After::Stops,
            KeyCode::Char('l') => After::Redraws,
            _ => After::Goes,
        };
    }
    if std::mem::take(&mut chart.help) && key.code != KeyCode::Char('q') {
        return After::Goes;
    }
    match key.code {
        KeyCode::Char('q' | 'Q') | KeyCode::F(10) => return After::Ends,
        KeyCode::Enter => return After::Redraws,
        KeyCode::Char('h' | '?') | KeyCode::F(1) => chart.help = true,
        KeyCode::Char('l') => chart.height = Height::Load,
        KeyCode::Char('L') => chart.height = Height::LoadAndCount,
        KeyCode::Char('s') => chart.height = Height::Speed,
        KeyCode::Char('m') => chart.height = Height::Memory,
        KeyCode::Char('r') => chart.height = Height::RawMemory,
        KeyCode::Char('u') => chart.height = Height::Use,
        KeyCode::Char('w') => chart.numbers = Numbers::Wide,
        KeyCode::Char('v') => chart.numbers = Numbers::Vertical,
        KeyCode::Char('V') => chart.numbers = Numbers::Dense,
        KeyCode::Char('a') => chart.numbers = Numbers::Fitting,
        KeyCode::Char('d') => chart.dead = true,
        KeyCode::Char('D') => chart.dead = false,
        KeyCode::Char('t') => chart.status = !chart.status,
        KeyCode::Right => chart.scroll(1),
        KeyCode::Left => chart.scroll(-1),
        KeyCode::Char('n') | KeyCode::PageDown => chart.turn(1),
        KeyCode::Char('p') | KeyCode::PageUp => chart.turn(-1),
        KeyCode::Home => chart.scroll(isize::MIN),
        _ => {}
    }
    After::Goes
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::top::tests::screen;
    use proptest::prelude::*;

    /// What a command line draws.
    pub fn drawn(table: &Table, words: &str, width: u16, height: u16) -> String {
        let mut chart = chart(&Cli::parse_from(words.split(' ')));
        chart.at = Some(Instant::now());
        draw(&mut chart, table, width, height)
    }

    fn draw(chart: &mut Chart, table: &Table, width: u16, height: u16) -> String {
        screen(width, height, |frame| {
            let area = frame.area();
            chart.draw(table, None, Theme::plain(), frame.buffer_mut(), area);
        })
    }

    fn many() -> Table {
        let mut table = Table::default();
        let nodes = (1..=200).map(|n| crate::top::table::tests::node(n, 9_000)).collect();
        table.update(crate::top::table::tests::look(nodes, Vec::new()));
        table
    }

    #[test]
    fn it_goes_through_the_nodes() {
        let (table, mut chart) = (many(), chart(&Cli::parse_from(["mosmon", "-w", "190"])));
        let after = |chart: &mut Chart, code| {
            press(chart, KeyEvent::new(code, KeyModifiers::NONE));
            draw(chart, &table, 80, 24)
        };
        let first = after(&mut chart, KeyCode::Null);
        assert!(first.contains(" 190 ") && !first.contains(" 189 "), "{first}");
        assert!(after(&mut chart, KeyCode::Left).contains(" 189 "));
        let before = after(&mut chart, KeyCode::Char('p'));
        assert!(before.contains(" 175 ") && !before.contains(" 189 "), "{before}");
        after(&mut chart, KeyCode::Char('n'));
        assert!(after(&mut chart, KeyCode::Home).contains("  1  "));
        assert!(after(&mut chart, KeyCode::Char('h')).contains("any key leaves it"));
        assert!(after(&mut chart, KeyCode::Char('x')).contains("load for each cpu"));
        assert_eq!(press(&mut chart, KeyEvent::from(KeyCode::Char('q'))), After::Ends);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn any_keys_on_any_screen_break_nothing(
            steps in prop::collection::vec((b' '..b'~', 1u16..120, 1u16..40), 1..20),
        ) {
            let (table, mut chart) = (many(), Chart::default());
            for (c, width, height) in steps {
                press(&mut chart, KeyEvent::from(KeyCode::Char(c.into())));
                draw(&mut chart, &table, width, height);
            }
        }
    }
}
