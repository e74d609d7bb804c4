//! `krg top` (`mtop`): the processes of all nodes, live, on one screen; and `mosmon` with MOSIX's
//! bars of the nodes. What is shown is a model without terminal or network; who asks, who draws and
//! who acts stand around it.

mod act;
mod app;
mod batch;
mod column;
mod draw;
mod keys;
mod list;
mod menu;
pub mod mon;
mod pen;
mod screen;
mod source;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod theme;

use crate::args::top::TopArgs;
use act::Outcome;
use anyhow::{Result, anyhow};
use app::App;
use column::{Column, Users};
use keys::Act;
use list::Wanted;
use screen::{Heard, Screen};
use source::Snapshot;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};
use theme::Theme;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// What the loop hears.
enum Event {
    Heard(Heard),
    Looked(Result<Snapshot>),
    Done(Outcome),
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

impl From<Outcome> for Event {
    fn from(outcome: Outcome) -> Event {
        Event::Done(outcome)
    }
}

/// `krg top`.
pub fn run(args: &TopArgs) -> Result<u8> {
    let mut app = match model(args) {
        Ok(app) => app,
        Err(e) => {
            eprintln!("krg top: {e:#}");
            return Ok(2);
        }
    };
    if args.batch || args.json {
        // One value is what a script wants.
        let count = args.count.or(args.json.then_some(1));
        return batch::run(&mut app, args.delay, count, args.json);
    }
    let signals = screen::hold_signals()?;
    let mut screen = Screen::take("krg top")?;
    let (told, events) = mpsc::channel();
    screen::listen(signals, &told);
    let now = ask(args.delay, &told);
    let end = watch(&mut app, &mut screen, &told, &events, &now, args.count);
    drop(screen);
    end.map(|signal| signal.map_or(0, screen::die_by))
}

/// What the command line says is to be shown.
fn model(args: &TopArgs) -> Result<App> {
    let user = args
        .user
        .as_deref()
        .map(|word| Users::number(word).ok_or_else(|| anyhow!("{word}: there is no such user")));
    let pids = (!args.pid.is_empty()).then(|| args.pid.iter().copied().collect());
    let wanted = Wanted { user: user.transpose()?, pids, ..Wanted::default() };
    let word = args.sort.as_deref().unwrap_or("CPU%");
    let (name, inverted) = match word.strip_prefix('-') {
        Some(name) => (name, true),
        None => (word, false),
    };
    let sort = Column::by_name(name);
    let sort = sort.ok_or_else(|| {
        let names: Vec<&str> = column::ALL.iter().map(|column| column.heading()).collect();
        anyhow!("{name}: there is no such column; there are {}", names.join(" "))
    })?;
    let mut app = App::new(wanted, sort, inverted, args.tree);
    if args.sort.is_some() {
        app.tree_sort = sort;
    }
    Ok(app)
}

/// Starts the thread that asks; a message to it has it ask now.
fn ask<E: From<Result<Snapshot>> + Send + 'static>(
    delay: Duration,
    told: &Sender<E>,
) -> UnboundedSender<()> {
    let (now, asked) = unbounded_channel();
    let told = told.clone();
    std::thread::spawn(move || {
        if let Err(e) = source::keep_asking(delay, asked, &told) {
            let _ = told.send(Err::<Snapshot, _>(e).into());
        }
    });
    now
}

/// Until its end; the signal, if one ended it.
fn watch(
    app: &mut App,
    screen: &mut Screen,
    told: &Sender<Event>,
    events: &Receiver<Event>,
    now: &UnboundedSender<()>,
    count: Option<u64>,
) -> Result<Option<i32>> {
    let theme = Theme::from_env();
    let mut looks = 0;
    loop {
        screen.terminal().draw(|frame| {
            let area = frame.area();
            draw::draw(app, theme, frame.buffer_mut(), area, Instant::now());
        })?;
        // All that has happened by now is on the next screen.
        let first = events.recv()?;
        for event in std::iter::once(first).chain(events.try_iter()) {
            match event {
                Event::Heard(Heard::Resized) => {}
                Event::Heard(Heard::Gone) => return Ok(None),
                Event::Heard(Heard::Ended(signal)) => return Ok(Some(signal)),
                Event::Looked(looked) => {
                    looks += u64::from(looked.is_ok());
                    app.look(looked, Instant::now());
                    if count.is_some_and(|count| looks > count) {
                        return Ok(None);
                    }
                }
                Event::Done(outcome) => {
                    app.tell(outcome.words, outcome.bad);
                    let _ = now.send(());
                }
                Event::Heard(Heard::Key(key)) => match press(app, key, told, screen, now)? {
                    true => {}
                    false => return Ok(None),
                },
            }
        }
    }
}

/// Does it go on?
fn press(
    app: &mut App,
    key: ratatui::crossterm::event::KeyEvent,
    told: &Sender<Event>,
    screen: &mut Screen,
    now: &UnboundedSender<()>,
) -> Result<bool> {
    app.told = None;
    match keys::press(app, key) {
        Act::None => {}
        Act::Quit => return Ok(false),
        Act::Suspend => screen.suspend()?,
        Act::Redraw => screen.redraw()?,
        Act::Look => {
            let _ = now.send(());
        }
        act => act::start(app, act, told),
    }
    Ok(true)
}
