//! What is drawn and what keys do, on looks at a small cluster of the tests' own. The screens are
//! in tests/golden/top: `KRG_BLESS=1` writes them anew.

use super::app::{App, Mode};
use super::column::Column;
use super::keys::{Act, press};
use super::list::Wanted;
use super::mon::tests as mon;
use super::source::Snapshot;
use super::table::tests::{look, node, process};
use super::theme::Theme;
use krg_rpc::proto::view::{ViewNode, ViewProcess};
use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use std::path::Path;
use std::time::{Duration, Instant};

/// Three nodes that answer, one of old values, and one that is down.
fn nodes(ms: u64) -> Vec<ViewNode> {
    let host = |number: u32, name: &str| ViewNode { hostname: name.into(), ..node(number, ms) };
    let mut stale = host(4, "attic");
    (stale.state, stale.answered) = ("stale".into(), false);
    (stale.age_ms, stale.uptime_ms) = (12_300, ms);
    let down = ViewNode {
        node: 5,
        hostname: "barn".into(),
        state: "down".into(),
        ..ViewNode::default()
    };
    vec![host(1, "alpha"), host(2, "beta"), host(3, "gamma-with-a-long-name"), stale, down]
}

/// Their processes; some names are hostile.
fn processes(seconds: u64) -> Vec<ViewProcess> {
    let named = |view: ViewProcess, words: &str| ViewProcess {
        comm: words.split('\0').next().unwrap_or_default().as_bytes().to_vec(),
        cmdline: words.as_bytes().to_vec(),
        ..view
    };
    let init = |node| named(process(node, 1, 300), "/sbin/init\0splash\0");
    let mut all: Vec<ViewProcess> = (1..=4).map(init).collect();
    all.push(named(process(1, 2, 10), "/usr/local/lib/krg/krgd\0"));
    let mut burner =
        named(process(3, 812, seconds * 100), "/opt/ocean/model\0--steps\x001000000\0");
    (burner.state, burner.ruid, burner.euid) = (u32::from(b'R'), 0, 0);
    (burner.rss_pages, burner.nice) = (300_000, 5);
    burner.ppid = 3 << 22 | 800;
    all.push(named(ViewProcess { ppid: 3 << 22 | 1, ..process(3, 800, 70) }, "bash\0"));
    all.push(burner);
    let hostile = "evil\x1b[2J\x1b]0;title\x07\0日本語\u{202e}gnp\0";
    all.push(named(process(2, 77, 20 + seconds * 30), hostile));
    all.push(ViewProcess { flags: 0x0020_0000, ..process(2, 2, 0) });
    all.last_mut().expect("one").cmdline.clear();
    all.last_mut().expect("one").comm = b"kthreadd".to_vec();
    all.extend((0..40).map(|n| process(4, 100 + n, 0)));
    all
}

/// After two looks, two seconds apart.
fn app() -> App {
    let mut app = App::new(Wanted::default(), Column::Cpu, false, false);
    for s in [100, 102] {
        let snapshot = look(nodes(s * 1_000), processes(s - 90));
        app.look(Ok(snapshot), Instant::now());
    }
    app
}

/// The screen as text, without the spaces at the ends of its lines.
pub fn screen(width: u16, height: u16, draw: impl FnOnce(&mut ratatui::Frame<'_>)) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a screen");
    terminal.draw(draw).expect("it is drawn");
    let buffer = terminal.backend().buffer();
    let mut out = String::new();
    for y in 0..height {
        let (mut line, mut skip) = (String::new(), 0);
        for x in 0..width {
            let symbol = buffer[(x, y)].symbol();
            // Behind a wide character there is a cell of nothing.
            if skip == 0 {
                line.push_str(symbol);
                skip = super::text::width(symbol).max(1);
            }
            skip -= 1;
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    assert!(!out.chars().any(|c| c.is_control() && c != '\n'), "{out:?}");
    out
}

fn drawn(app: &mut App, width: u16, height: u16) -> String {
    let now = app.at.unwrap_or_else(Instant::now);
    screen(width, height, |frame| {
        let area = frame.area();
        super::draw::draw(app, Theme::plain(), frame.buffer_mut(), area, now);
    })
}

/// Compares with what is kept.
#[track_caller]
pub fn golden(name: &str, drawn: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/top").join(name);
    if std::env::var_os("KRG_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(&path, drawn).expect("it is written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == drawn, "{name} is kept as\n{kept}\nand is now\n{drawn}");
}

fn keys(app: &mut App, text: &str) -> Act {
    let code = |c| match c {
        '\n' => KeyCode::Enter,
        '\x1b' => KeyCode::Esc,
        '\x08' => KeyCode::Backspace,
        c => KeyCode::Char(c),
    };
    let codes: Vec<KeyCode> = text.chars().map(code).collect();
    codes.into_iter().fold(Act::None, |_, code| key(app, code))
}

fn key(app: &mut App, code: KeyCode) -> Act {
    press(app, KeyEvent::new(code, KeyModifiers::NONE))
}

/// The pid of the selected line, and of how many.
fn at(app: &App) -> (u32, usize) {
    (app.process(app.cursor).map_or(0, |process| process.view.pid), app.rows.len())
}

const BURNER: u32 = 3 << 22 | 812;
const EVIL: u32 = 2 << 22 | 77;

#[test]
fn screens_are_as_they_are_kept() {
    for (width, height) in [(80, 24), (200, 60), (20, 5)] {
        golden(&format!("list-{width}x{height}.txt"), &drawn(&mut app(), width, height));
    }
    let mut tree = app();
    keys(&mut tree, "t");
    golden("tree-80x24.txt", &drawn(&mut tree, 80, 24));
    let mut kill = app();
    keys(&mut kill, "k");
    golden("kill-80x24.txt", &drawn(&mut kill, 80, 24));
    let mut filter = app();
    keys(&mut filter, "\\sleep 1");
    golden("filter-80x24.txt", &drawn(&mut filter, 80, 24));
    let mut help = app();
    keys(&mut help, "h");
    golden("help-80x24.txt", &drawn(&mut help, 80, 24));
    let mut away = app();
    away.look(Err(anyhow::anyhow!("nobody is there")), Instant::now());
    golden("away-80x24.txt", &drawn(&mut away, 80, 24));
    golden(
        "first-80x24.txt",
        &drawn(&mut App::new(Wanted::default(), Column::Cpu, false, false), 80, 24),
    );
}

#[test]
fn bars_are_as_they_are_kept() {
    let mut table = super::table::Table::default();
    for s in [100, 102] {
        table.update(look(nodes(s * 1_000), processes(s - 90)));
    }
    for (name, words, width, height) in [
        ("load", "mosmon -L -t", 80, 24),
        ("memory", "mosmon -m -d", 80, 24),
        ("use", "mosmon -u", 200, 60),
        ("dense", "mosmon -V -d", 20, 8),
    ] {
        let drawn = mon::drawn(&table, words, width, height);
        golden(&format!("mosmon-{name}-{width}x{height}.txt"), &drawn);
    }
}

#[test]
fn the_list_sorts_and_keeps_its_place() {
    let mut app = app();
    assert_eq!(at(&app), (BURNER, 49));
    key(&mut app, KeyCode::Down);
    assert_eq!(at(&app).0, EVIL);
    keys(&mut app, "N");
    assert_eq!(app.cursor, 1, "the place stays");
    keys(&mut app, "I");
    assert_eq!((app.cursor, at(&app).0), (47, 1 << 22 | 2), "and with I the process");
    keys(&mut app, "FP");
    assert_eq!(at(&app).0, 1 << 22 | 2, "so with F");
    key(&mut app, KeyCode::Home);
    keys(&mut app, "M");
    assert_eq!((app.sort, app.inverted), (Column::Memory, false));
    keys(&mut app, "M");
    assert!(app.inverted);
    keys(&mut app, ">time\n");
    assert_eq!((app.sort, app.inverted), (Column::Time, false));
}

#[test]
fn filters_searches_and_numbers_find() {
    let mut app = app();
    keys(&mut app, "\\OCEAN");
    assert_eq!(at(&app), (BURNER, 1));
    keys(&mut app, "\x1b");
    assert_eq!(at(&app), (BURNER, 49));
    keys(&mut app, "\\sleep 1\nx");
    assert_eq!(at(&app).1, 40);
    keys(&mut app, "\\");
    (0..9).for_each(|_| drop(keys(&mut app, "\x08")));
    keys(&mut app, "\n");
    assert_eq!(at(&app).1, 49);
    keys(&mut app, "/bash");
    assert_eq!(at(&app).0, 3 << 22 | 800);
    key(&mut app, KeyCode::F(3));
    assert_eq!(at(&app).0, 3 << 22 | 800, "there is one only");
    keys(&mut app, "xx");
    assert!(app.told.as_ref().is_some_and(|told| told.bad));
    keys(&mut app, "\x1b812");
    assert_eq!(at(&app).0, BURNER);
    keys(&mut app, "n");
    keys(&mut app, "2\n");
    assert_eq!((app.wanted.node, at(&app).1), (Some(2), 3));
    keys(&mut app, "K");
    assert_eq!(at(&app).1, 2);
}

#[test]
fn what_is_done_is_done_to_who_was_chosen() {
    let mut app = app();
    let burner = app.selected.expect("the first line");
    keys(&mut app, "k");
    // While it is chosen how, the lines change places.
    let snapshot = look(nodes(104_000), processes(12));
    app.look(Ok(snapshot), Instant::now());
    assert_eq!(keys(&mut app, "9\n"), Act::Kill(vec![burner], 9));
    assert!(matches!(app.mode, Mode::Normal));
    assert_eq!(keys(&mut app, "kusr1\n"), Act::Kill(app.targets(), 10));
    assert_eq!(keys(&mut app, "k\n"), Act::Kill(app.targets(), 15));
    assert_eq!(keys(&mut app, "k\x1b"), Act::None);
    assert_eq!(keys(&mut app, "k0\n"), Act::None, "cancel");
    keys(&mut app, "812");
    assert_eq!(keys(&mut app, "["), Act::Renice(vec![(burner, 6)]));
    assert_eq!(keys(&mut app, "m3\n"), Act::Migrate(vec![burner], 3));
    assert_eq!(keys(&mut app, "mhome\n"), Act::Migrate(vec![burner], 0));
    keys(&mut app, "  ");
    assert_eq!(app.tags.len(), 2);
    assert!(matches!(keys(&mut app, "k\n"), Act::Kill(all, 15) if all.len() == 2));
    keys(&mut app, "U/bash\x1bc");
    assert_eq!(app.tags.len(), 2, "the shell and its child");
    let ended = look(nodes(106_000), processes(12)[..4].to_vec());
    app.look(Ok(ended), Instant::now());
    assert!(app.tags.is_empty() && app.alive(&[burner]).is_empty());
    assert_eq!(keys(&mut app, "q"), Act::Quit);
}

#[test]
fn trees_fold() {
    let mut app = app();
    keys(&mut app, "t812");
    assert_eq!(at(&app), (BURNER, 49));
    keys(&mut app, "/bash\x1b-");
    assert_eq!(at(&app), (3 << 22 | 800, 48));
    keys(&mut app, "+");
    assert_eq!(at(&app).1, 49);
    keys(&mut app, "*");
    assert!(at(&app).1 < 49);
    keys(&mut app, "*");
    assert_eq!(at(&app).1, 49);
}

#[test]
fn words_leave_and_a_pause_holds() {
    let mut app = app();
    app.tell("it was so".into(), false);
    let later = app.told.as_ref().map(|told| told.at + Duration::from_secs(60));
    app.at = later;
    assert!(!drawn(&mut app, 80, 24).contains("it was so"));
    keys(&mut app, "Z");
    app.look(Ok(Snapshot::default()), Instant::now());
    assert_eq!(app.rows.len(), 49);
    keys(&mut app, "Z");
    app.look(Ok(Snapshot::default()), Instant::now());
    assert_eq!(app.rows.len(), 0);
    assert!(drawn(&mut app, 80, 24).contains("0 nodes"));
}

/// A hundred thousand processes: a look, and each key after it.
#[test]
fn many_processes_are_quick() {
    let many = |seconds: u64| {
        look(
            nodes(seconds * 1_000),
            (0..100_000).map(|n| process(1 + n % 3, 1 + n, u64::from(n) % 50)).collect(),
        )
    };
    let mut app = App::new(Wanted::default(), Column::Cpu, false, false);
    let began = Instant::now();
    for s in 100..103 {
        app.look(Ok(many(s)), Instant::now());
        drawn(&mut app, 200, 60);
    }
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    let began = Instant::now();
    for _ in 0..100 {
        key(&mut app, KeyCode::PageDown);
        drawn(&mut app, 200, 60);
    }
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_keys_on_any_screen_break_nothing(
        steps in prop::collection::vec((0u32..130, 0u16..100, 0u16..40), 1..40),
    ) {
        let mut app = app();
        let others = [KeyCode::Up, KeyCode::Down, KeyCode::Left, KeyCode::Right, KeyCode::PageUp,
            KeyCode::PageDown, KeyCode::Home, KeyCode::End, KeyCode::Enter, KeyCode::Esc,
            KeyCode::Backspace];
        for (n, (code, width, height)) in steps.into_iter().enumerate() {
            let code = match char::from_u32(code) {
                Some(c) if (' '..='~').contains(&c) => KeyCode::Char(c),
                _ => others[code as usize % others.len()],
            };
            key(&mut app, code);
            if n % 5 == 0 {
                let some = processes(n as u64).into_iter().skip(n).collect();
                let ms = 103_000 + n as u64 * 500;
                app.look(Ok(look(nodes(ms), some)), Instant::now());
            }
            if width > 0 && height > 0 {
                drawn(&mut app, width, height);
            }
            prop_assert!(app.rows.is_empty() || app.cursor < app.rows.len());
        }
    }
}
