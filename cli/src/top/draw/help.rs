//! The keys, told.

use crate::top::pen::Pen;
use crate::top::theme::Theme;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

const KEYS: [(&str, &str); 33] = [
    ("Up Down", "go through the processes; PgUp, PgDn, Home and End, too"),
    ("Left Right", "go through their command lines"),
    ("digits", "go to a number: the cluster's, or its own on its node"),
    ("F2  S", "nodes: some, all, none"),
    ("F3  /", "search; F3 and Down the next one, Up the one before, Esc ends it"),
    ("F4  \\", "show only lines with a text; Enter keeps it, Esc has the one before"),
    ("F5  t", "tree"),
    ("+ -  *", "in the tree: unfold, fold; all of it"),
    ("F6  < >", "sort by a column"),
    ("P  M  T  N", "sort by processor share, memory, time, number"),
    ("I", "the other way round"),
    ("u", "one user's processes"),
    ("n", "one node's processes"),
    ("K", "without the kernel's threads, and with them"),
    ("p", "programs with their directories, and without"),
    ("F", "follow: the line stays with its process"),
    ("Z", "pause: nothing new is shown"),
    ("", ""),
    ("Space", "tag a process, or take its tag"),
    ("c", "tag it and all that it has started"),
    ("U", "take all tags"),
    ("", ""),
    ("", "With the tagged processes, or else the selected one:"),
    ("F7  ]", "a higher priority (only root may)"),
    ("F8  [", "a lower priority"),
    ("F9  k", "send a signal"),
    ("m", "move to another node (jobs: krg run)"),
    ("", ""),
    ("r", "look now"),
    ("Ctrl-L", "draw the screen anew"),
    ("Ctrl-Z", "stop; fg goes on"),
    ("F10  q", "end"),
    ("F1  h  ?", "this; any key leaves it"),
];

/// What the bars and letters are.
const WORDS: [&str; 5] = [
    "*     this machine. AGE: how old what is told of a node is, at most. What is older than 5 s,",
    "      or said to be stale, is grey. Of a node that is down nothing is known.",
    "CPU   of a node: its processors' busy share. MEMORY: what is not available, and all.",
    "CPU%  of a process: of one processor. MEM%: of its node's memory.",
    "S     R runs, S sleeps, D waits for a device, T stopped, Z has ended, I idle.",
];

/// Draws them from a line on; the line is set to the last from which there is something to see.
pub fn draw(line: &mut u16, theme: Theme, buf: &mut Buffer, area: Rect) {
    let all = KEYS.len() + WORDS.len() + 3;
    let last = u16::try_from(all).unwrap_or(u16::MAX).saturating_sub(area.height);
    *line = (*line).min(last);
    let from = usize::from(*line);
    for y in 0..area.height {
        let pen = &mut Pen::new(buf, area, y);
        match from + usize::from(y) {
            0 => {
                pen.put(" krg top: the processes of all nodes", theme.strong());
                pen.put("   (Up and Down; any other key leaves this)", theme.quiet());
            }
            n if n >= 2 && n - 2 < KEYS.len() => {
                let (key, words) = KEYS[n - 2];
                pen.put(" ", theme.text());
                pen.put_in(key, 12, theme.strong());
                pen.put(words, theme.text());
            }
            n if n > KEYS.len() + 2 => {
                let words = WORDS.get(n - KEYS.len() - 3).copied().unwrap_or_default();
                pen.put(" ", theme.text());
                pen.put(words, theme.quiet());
            }
            _ => {}
        }
    }
}
