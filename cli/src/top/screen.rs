//! The terminal while a program of the whole screen has it: taken, and given back as it was on
//! every way out.

use anyhow::{Context, Result};
use krg_sys::process::{SigSet, Signal};
use nix::sys::signal::{SigmaskHow, pthread_sigmask, raise};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event as Input, KeyEvent};
use ratatui::crossterm::{cursor, execute, terminal};
use std::io::{self, IsTerminal, Stdout};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;

/// Signals that end a program: here they are read, so that the terminal is given back first.
const ENDING: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

/// Is the terminal taken now?
static TAKEN: AtomicBool = AtomicBool::new(false);

/// What a program of the whole screen hears of its terminal.
#[derive(Debug)]
pub enum Heard {
    /// A key.
    Key(KeyEvent),
    /// The screen has another size.
    Resized,
    /// A signal that is to end it.
    Ended(i32),
    /// There is no terminal any more.
    Gone,
}

/// The terminal, taken until this is dropped.
pub struct Screen(Terminal<CrosstermBackend<Stdout>>);

impl Screen {
    /// Takes it.
    ///
    /// # Errors
    /// When standard input and output are none.
    pub fn take(name: &str) -> Result<Screen> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            anyhow::bail!(
                "{name} shows itself in a terminal, and this is none (see -b and --json)"
            );
        }
        give_back_on_panic();
        enter().context("the terminal cannot be set up")?;
        let screen = Terminal::new(CrosstermBackend::new(io::stdout()));
        screen.inspect_err(|_| leave()).map(Screen).context("the terminal cannot be set up")
    }

    /// To draw on.
    pub fn terminal(&mut self) -> &mut Terminal<CrosstermBackend<Stdout>> {
        &mut self.0
    }

    /// Gives the terminal back, stops as by Ctrl-Z, and takes it again when the user goes on.
    pub fn suspend(&mut self) -> Result<()> {
        leave();
        // To this thread: it has stopped when this returns, and goes on behind it.
        raise(Signal::SIGTSTP)?;
        enter()?;
        self.redraw()
    }

    /// Whatever is on the screen, next time all of it is drawn.
    pub fn redraw(&mut self) -> Result<()> {
        // Its own clear asks the terminal where the cursor is, and the answer would come to who
        // waits for keys.
        execute!(io::stdout(), terminal::Clear(terminal::ClearType::All))?;
        self.0 = Terminal::new(CrosstermBackend::new(io::stdout()))?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

fn enter() -> io::Result<()> {
    terminal::enable_raw_mode()?;
    TAKEN.store(true, Ordering::SeqCst);
    execute!(io::stdout(), terminal::EnterAlternateScreen, cursor::Hide)
}

/// What fails cannot be told to anybody.
fn leave() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        let _ = execute!(io::stdout(), cursor::Show, terminal::LeaveAlternateScreen);
        let _ = terminal::disable_raw_mode();
    }
}

/// A panic of any thread gives the terminal back, says what it is, and ends the program.
fn give_back_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            leave();
            before(panic);
            std::process::exit(101);
        }));
    });
}

/// Has signals that would end the program wait: to be called before there is a second thread. A
/// connection that was closed by the other side is an error, not an end.
pub fn hold_signals() -> Result<SigSet> {
    let ending: SigSet = ENDING.into_iter().collect();
    let held: SigSet = ENDING.into_iter().chain([Signal::SIGPIPE]).collect();
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&held), None)?;
    Ok(ending)
}

/// Ends as the signal would have ended it, so that a shell knows.
pub fn die_by(signal: i32) -> u8 {
    let known = Signal::try_from(signal).unwrap_or(Signal::SIGTERM);
    let mut one = SigSet::empty();
    one.add(known);
    let _ = raise(known);
    let _ = one.thread_unblock();
    // Somebody has it ignored.
    u8::try_from(128 + signal).unwrap_or(1)
}

/// Starts threads that hear keys and signals until the program ends.
pub fn listen<E: From<Heard> + Send + 'static>(signals: SigSet, told: &Sender<E>) {
    let (keys, ends) = (told.clone(), told.clone());
    std::thread::spawn(move || {
        loop {
            let heard = match event::read() {
                Ok(Input::Key(key)) => Heard::Key(key),
                Ok(Input::Resize(..)) => Heard::Resized,
                Ok(_) => continue,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => Heard::Gone,
            };
            let gone = matches!(heard, Heard::Gone);
            if keys.send(heard.into()).is_err() || gone {
                return;
            }
        }
    });
    std::thread::spawn(move || {
        while let Ok(signal) = signals.wait() {
            if ends.send(Heard::Ended(signal as i32).into()).is_err() {
                return;
            }
        }
    });
}
