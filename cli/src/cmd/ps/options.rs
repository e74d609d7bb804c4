//! The command line of ps(1), as procps 4 reads it: what is selected, shown and sorted. What this
//! does not know is left to ps itself.

mod format;
mod list;

use super::column::{Column, What, is_of_cluster};
use format::Formats;
use list::Lists;

/// Why a command line is not answered here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// ps would not take it so; written with dashes, it may be meant without.
    Wrong,
    /// It is beyond what is known here.
    Beyond,
}

/// How children are drawn below their parents.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Forest {
    /// By lines.
    Lines,
    /// By their indentation.
    Indented,
}

/// Processes with something in common; by its number, or its name as it was said.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Listed {
    Pids(Vec<u32>),
    Parents(Vec<u32>),
    Sessions(Vec<u32>),
    Euids(Vec<u32>),
    Ruids(Vec<u32>),
    Egids(Vec<u32>),
    Rgids(Vec<u32>),
    Names(Vec<Vec<u8>>),
}

/// Selections without an argument, where not every process is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Simple {
    /// `-a`.
    pub with_tty: bool,
    /// `-d`.
    pub no_leaders: bool,
    /// `a`.
    pub everybodys: bool,
    /// `x`.
    pub without_tty: bool,
    /// `g`, which is so anyway.
    pub leaders: bool,
}

impl Simple {
    fn any(self) -> bool {
        self != Simple::default()
    }
}

/// All that is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Every process.
    pub all: bool,
    /// Else these, if `simple_counts`.
    pub simple: Simple,
    /// Those of the caller's terminal, if nothing else is said; of BSD: of all of his.
    pub bsd: bool,
    /// And those on lists.
    pub lists: Vec<Listed>,
    /// Of them who runs.
    pub running: bool,
    /// All others.
    pub negate: bool,
    /// The columns.
    pub columns: Vec<Column>,
    /// Sorted by the first, then the next; `true`: the highest first.
    pub sort: Vec<(What, bool)>,
    /// As a tree.
    pub forest: Option<Forest>,
    /// With a line of headings.
    pub header: bool,
    /// Users by number.
    pub numeric: bool,
    /// A short name is shown in full.
    pub full_names: bool,
    /// The width of lines: as was said, and how often `w` was.
    pub width: Option<usize>,
    /// How often `w` was said.
    pub wide: u32,
}

/// What was said so far.
#[derive(Default)]
struct Parser<'a> {
    args: &'a [String],
    at: usize,
    /// All options are of BSD, even those with a dash.
    force_bsd: bool,
    bsd: bool,
    all: bool,
    simple: Simple,
    lists: Lists,
    running: bool,
    formats: Formats,
    forest: Option<Forest>,
    no_header: bool,
    numeric: bool,
    full_names: bool,
    width: Option<usize>,
    wide: u32,
}

type Done = Result<(), Refusal>;

/// Reads a command line.
///
/// # Errors
/// When it is to be left to ps.
pub fn parse(args: &[String]) -> Result<Options, Refusal> {
    let as_is = Parser { args, ..Parser::default() }.run();
    match as_is {
        Err(Refusal::Wrong) => Parser { args, force_bsd: true, ..Parser::default() }.run(),
        other => other,
    }
}

/// Does it show what only the cluster has? Then ps cannot help. A program may be called `node`.
pub fn is_of_cluster_only(args: &[String]) -> bool {
    let programs = |at: usize| at > 0 && args[at - 1].ends_with('C');
    let words = args.iter().enumerate().filter(|(at, _)| !programs(*at));
    let names = words.flat_map(|(_, arg)| arg.split([',', ' ', '=', ':', '-', '+']));
    names.filter_map(super::column::what).any(is_of_cluster)
}

impl Parser<'_> {
    fn run(mut self) -> Result<Options, Refusal> {
        self.bsd = self.force_bsd;
        while let Some(arg) = self.args.get(self.at) {
            self.one(arg.clone())?;
            self.at += 1;
        }
        self.finish()
    }

    fn one(&mut self, arg: String) -> Done {
        let bytes = arg.as_bytes();
        let letter = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_alphabetic);
        match bytes {
            [b'-', b'-', ..] if letter(2) => self.gnu(&arg[2..]),
            [b'-', ..] if letter(1) && self.force_bsd => self.bsd(&arg[1..]),
            [b'-', ..] if letter(1) => self.unix(&arg[1..]),
            [first, ..] if first.is_ascii_alphabetic() => {
                self.bsd = true;
                self.bsd(&arg)
            }
            [first, ..] if first.is_ascii_digit() => {
                self.bsd = true;
                let rest = self.args[self.at..].to_vec();
                self.at = self.args.len() - 1;
                rest.iter().try_for_each(|pid| self.lists.pids(pid, Listed::Pids))
            }
            _ => Err(Refusal::Beyond),
        }
    }

    /// The argument of an option: what follows its letter, or the next word.
    fn argument(&mut self, rest: &str) -> Result<String, Refusal> {
        if !rest.is_empty() {
            return Ok(rest.to_owned());
        }
        self.at += 1;
        let next = self.args.get(self.at).filter(|next| !next.is_empty());
        next.cloned().ok_or(Refusal::Wrong)
    }

    fn unix(&mut self, letters: &str) -> Done {
        for (at, letter) in letters.char_indices() {
            let rest = &letters[at + letter.len_utf8()..];
            match letter {
                'A' | 'e' => self.all = true,
                'a' => self.simple.with_tty = true,
                'd' => self.simple.no_leaders = true,
                'N' => self.lists.negate = true,
                'H' => self.forest = Some(Forest::Indented),
                'w' => self.wide += 1,
                'f' | 'F' | 'l' | 'j' | 'y' | 'c' | 'P' => {
                    self.full_names |= matches!(letter, 'f' | 'F');
                    self.formats.unix(letter);
                }
                'C' | 'G' | 'O' | 'U' | 'g' | 'o' | 'p' | 's' | 'u' => {
                    let argument = self.argument(rest)?;
                    return self.unix_with(letter, &argument);
                }
                'L' | 'M' | 'T' | 'V' | 'Z' | 'm' | 'q' | 't' => return Err(Refusal::Beyond),
                _ => return Err(Refusal::Wrong),
            }
        }
        Ok(())
    }

    fn unix_with(&mut self, letter: char, argument: &str) -> Done {
        match letter {
            'C' => self.lists.names(argument),
            'G' => self.lists.groups(argument, Listed::Rgids),
            'O' => self.formats.around(argument),
            'U' => self.lists.users(argument, Listed::Ruids),
            // Sessions by number, groups by name: a list of both is neither.
            'g' => match self.lists.pids(argument, Listed::Sessions) {
                Ok(()) => Ok(()),
                Err(_) => self.lists.groups(argument, Listed::Egids),
            },
            'o' => self.formats.own(argument),
            'p' => self.lists.pids(argument, Listed::Pids),
            's' => self.lists.pids(argument, Listed::Sessions),
            _ => self.lists.users(argument, Listed::Euids),
        }
    }

    fn bsd(&mut self, letters: &str) -> Done {
        for (at, letter) in letters.char_indices() {
            let rest = &letters[at + letter.len_utf8()..];
            match letter {
                'a' => self.simple.everybodys = true,
                'g' => self.simple.leaders = true,
                'x' => self.simple.without_tty = true,
                'f' => self.forest = Some(Forest::Lines),
                'h' if !self.no_header => self.no_header = true,
                'n' => self.numeric = true,
                'r' => self.running = true,
                'w' => self.wide += 1,
                'j' | 'l' | 'u' => self.formats.bsd(letter),
                '0'..='9' => return self.lists.pids(&letters[at..], Listed::Pids),
                'U' | 'k' | 'o' | 'p' => {
                    let argument = self.argument(rest)?;
                    return match letter {
                        'U' => self.lists.users(&argument, Listed::Euids),
                        'k' => self.formats.sort(&argument),
                        'o' => self.formats.own(&argument),
                        _ => self.lists.pids(&argument, Listed::Pids),
                    };
                }
                'H' | 'L' | 'M' | 'O' | 'S' | 'T' | 'V' | 'X' | 'Z' | 'c' | 'e' | 'm' | 'q'
                | 's' | 't' | 'v' => return Err(Refusal::Beyond),
                _ => return Err(Refusal::Wrong),
            }
        }
        Ok(())
    }

    fn gnu(&mut self, option: &str) -> Done {
        let (name, given) = match option.split_once(['=', ':']) {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (option, None),
        };
        match name {
            "deselect" | "forest" if given.is_some() => return Err(Refusal::Wrong),
            "deselect" => self.lists.negate = true,
            "forest" => self.forest = Some(Forest::Lines),
            "no-header" | "no-headers" | "no-heading" | "no-headings" | "noheader"
            | "noheaders" | "noheading" | "noheadings" => {
                if given.is_some() || self.no_header {
                    return Err(Refusal::Wrong);
                }
                self.no_header = true;
            }
            "Group" | "User" | "group" | "user" | "pid" | "ppid" | "sid" | "format" | "sort"
            | "cols" | "columns" | "width" => {
                let value = match given {
                    Some(value) if value.is_empty() => return Err(Refusal::Wrong),
                    Some(value) => value,
                    None => self.argument("")?,
                };
                return self.gnu_with(name, &value);
            }
            _ => return Err(Refusal::Beyond),
        }
        Ok(())
    }

    fn gnu_with(&mut self, name: &str, value: &str) -> Done {
        match name {
            "Group" => self.lists.groups(value, Listed::Rgids),
            "User" => self.lists.users(value, Listed::Ruids),
            "group" => self.lists.groups(value, Listed::Egids),
            "user" => self.lists.users(value, Listed::Euids),
            "pid" => self.lists.pids(value, Listed::Pids),
            "ppid" => self.lists.pids(value, Listed::Parents),
            "sid" => self.lists.pids(value, Listed::Sessions),
            "format" => self.formats.own(value),
            "sort" => self.formats.sort(value),
            _ => {
                let width = value.parse().ok().filter(|w| (1..2_000_000_000).contains(w));
                self.width = Some(width.ok_or(Refusal::Beyond)?);
                Ok(())
            }
        }
    }

    fn finish(mut self) -> Result<Options, Refusal> {
        let Simple { with_tty, no_leaders, everybodys, without_tty, .. } = self.simple;
        if (with_tty || no_leaders) && (everybodys || without_tty || self.simple.leaders) {
            return Err(Refusal::Wrong);
        }
        let columns = self.formats.columns(self.bsd)?;
        let sort = std::mem::take(&mut self.formats.sort);
        // ps then draws its trees of what is not in their order.
        if self.forest.is_some() && !sort.is_empty() {
            return Err(Refusal::Beyond);
        }
        Ok(Options {
            all: self.all || (everybodys && without_tty),
            simple: self.simple,
            bsd: self.bsd,
            lists: self.lists.all,
            running: self.running,
            negate: self.lists.negate,
            columns,
            sort,
            forest: self.forest,
            header: !self.no_header,
            numeric: self.numeric,
            full_names: self.full_names,
            width: self.width,
            wide: self.wide,
        })
    }
}

impl Options {
    /// Are command lines shown, or sorted by?
    pub fn needs_commands(&self) -> bool {
        let shown = self.columns.iter().map(|column| column.what);
        let mut all = shown.chain(self.sort.iter().map(|(what, _)| *what));
        all.any(|what| what == What::Args || (what == What::Comm && self.full_names))
    }

    /// Is anything shown for which the view must be read?
    pub fn needs_view(&self) -> bool {
        self.columns.iter().any(|column| column.what == What::Wchan)
    }

    /// Is something said about who is selected, but lists?
    pub fn has_simple(&self) -> bool {
        self.simple.any() || self.lists.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(line: &str) -> Result<Options, Refusal> {
        let words: Vec<String> = line.split('|').map(str::to_owned).collect();
        parse(&words)
    }

    fn heads(line: &str) -> String {
        let columns = parsed(line).expect(line).columns;
        columns.into_iter().map(|column| column.head).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn formats_are_those_of_ps() {
        assert_eq!(heads("-e"), "PID TTY TIME CMD");
        assert_eq!(heads("-ef"), "UID PID PPID C STIME TTY TIME CMD");
        assert_eq!(heads("-eF"), "UID PID PPID C SZ RSS PSR STIME TTY TIME CMD");
        assert_eq!(heads("-el"), "F S UID PID PPID C PRI NI ADDR SZ WCHAN TTY TIME CMD");
        assert_eq!(heads("-ely"), "S UID PID PPID C PRI NI RSS SZ WCHAN TTY TIME CMD");
        assert_eq!(heads("-ej"), "PID PGID SID TTY TIME CMD");
        assert_eq!(heads("aux"), "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND");
        assert_eq!(heads("-aux"), heads("aux"));
        assert_eq!(heads("ax"), "PID TTY STAT TIME COMMAND");
        assert_eq!(heads("axj"), "PPID PID PGID SID TTY TPGID STAT UID TIME COMMAND");
        assert_eq!(heads("-eo|pid=,user=WHO,args"), " WHO COMMAND");
        assert_eq!(heads("-eopid,comm="), "PID ");
        assert_eq!(heads("-e|-O|ppid,ni"), "PID PPID NI S TTY TIME COMMAND");
    }

    #[test]
    fn selections_and_orders_are_read() {
        let options = parsed("-u|root,33|-p|1,2|--ppid=7|--sort=-pcpu,+pid|-N").unwrap();
        let lists =
            [Listed::Euids(vec![0, 33]), Listed::Pids(vec![1, 2]), Listed::Parents(vec![7])];
        assert_eq!(options.lists, lists);
        assert_eq!(options.sort, [(What::CpuPercent, true), (What::Pid, false)]);
        assert!(options.negate && !options.all && !options.bsd);
        let options = parsed("axwwf").unwrap();
        assert!(options.all && options.bsd);
        assert_eq!((options.forest, options.wide), (Some(Forest::Lines), 2));
        let width = parsed("-eo|user:20,pid:3").unwrap().columns;
        assert_eq!((width[0].width, width[1].width, width[1].pids), (20, 3, false));
    }

    #[test]
    fn what_is_not_known_is_left_to_ps() {
        for beyond in ["-eL", "-eo|pid,bogus", "axe", "-t|pts/1", "--help", "H", "-e|--sort=x"] {
            assert_eq!(parsed(beyond), Err(Refusal::Beyond), "{beyond}");
        }
        for wrong in
            ["-e|-o|", "-p|x", "-p|1,,2", "-ey", "-q1|-x", "-o|pid|-f", "-u|no-such-user"]
        {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
        let only = |line: &str| {
            is_of_cluster_only(&line.split('|').map(str::to_owned).collect::<Vec<_>>())
        };
        assert!(only("-eo|pid,node") && only("--sort=-age") && !only("-C|node") && !only("aux"));
    }

    proptest! {
        #[test]
        fn any_words_are_read_without_panic(
            words in proptest::collection::vec("[-a-zA-Z0-9=:,+ é]{0,12}", 0..5),
        ) {
            let _ = parse(&words);
            is_of_cluster_only(&words);
        }
    }
}
