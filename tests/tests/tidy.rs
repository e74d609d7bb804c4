//! The rules of the house, checked on the sources: who may import whom, how long a file may be,
//! where `unsafe` lives. Every rule returns its offenders, and every rule is shown to find one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

const FILE_LINES: usize = 600;
const FN_LINES: usize = 70;
const COLUMNS: usize = 100;

/// Where something sleeps, and why nothing better will do. An entry that is not needed any more
/// is an offence too. Prefer a channel, a condition, an interval or a deadline.
const SLEEPS: &[(&str, &str)] =
    &[("lab/src/root.rs", "the kernel does not tell when an overlay's layers become free")];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the workspace")
}

// ---- what is checked -------------------------------------------------------------------------

/// One file: as it is, and for Rust with comments and literals blanked out.
struct Source {
    /// Relative to the workspace.
    path: String,
    text: String,
    code: String,
    /// One per line of `code`: it is compiled for tests only.
    test: Vec<bool>,
}

impl Source {
    fn new(path: &str, text: &str) -> Source {
        let code = if path.ends_with(".rs") { strip(text) } else { text.to_owned() };
        let mut test = test_lines(&code);
        let file = path.rsplit('/').next().unwrap_or(path);
        if path.contains("tests/") || path.contains("benches/") || file == "tests.rs" {
            test.fill(true);
        }
        Source { path: path.to_owned(), text: text.to_owned(), code, test }
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    fn room(&self) -> &str {
        self.path.split('/').next().unwrap_or_default()
    }

    /// The lines of code, with their number from 1 and whether they are for tests only.
    fn lines(&self) -> impl Iterator<Item = (usize, &str, bool)> {
        let lines = self.code.lines().zip(&self.test).enumerate();
        lines.map(|(n, (line, test))| (n + 1, line, *test))
    }

    /// An offender for every line that the closure picks.
    fn find(&self, why: &str, picks: impl Fn(&str, bool) -> bool) -> Vec<String> {
        let hits = self.lines().filter(|(_, line, test)| picks(line, *test));
        hits.map(|(n, ..)| format!("{}:{n}: {why}", self.path)).collect()
    }
}

/// All text files of the tree that are ours.
fn tree() -> Vec<Source> {
    fn walk(dir: &Path, root: &Path, out: &mut Vec<Source>) {
        let entries = std::fs::read_dir(dir).expect("a readable directory");
        for entry in entries.map(|e| e.expect("a readable entry")) {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if path.is_dir() {
                if name != "target" && (!name.starts_with('.') || name == ".ci") {
                    walk(&path, root, out);
                }
            } else if name != "Cargo.lock"
                && let Ok(text) = std::fs::read_to_string(&path)
            {
                let relative = path.strip_prefix(root).expect("below the root");
                out.push(Source::new(&relative.to_string_lossy(), &text));
            }
        }
    }
    let (root, mut out) = (root(), Vec::new());
    walk(&root, &root, &mut out);
    // A module may be made test-only where it is declared: `#[cfg(test)] mod golden;`.
    let declared: BTreeSet<String> =
        out.iter().filter(|s| s.is_rust()).flat_map(test_modules).collect();
    for source in out.iter_mut().filter(|s| declared.contains(&s.path)) {
        source.test.fill(true);
    }
    out.sort_by(|a, b| a.path.cmp(&b.path));
    out
}

/// The files of modules that `source` declares for tests only.
fn test_modules(source: &Source) -> Vec<String> {
    let (dir, file) = source.path.rsplit_once('/').unwrap_or(("", &source.path));
    let stem = file.trim_end_matches(".rs");
    let owner = ["lib", "main", "mod"].contains(&stem);
    let folder = if owner { dir.to_owned() } else { format!("{dir}/{stem}") };
    let modules = source.lines().filter(|(_, _, test)| *test).filter_map(|(_, line, _)| {
        line.trim().trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';')
    });
    modules.map(|name| format!("{folder}/{name}.rs")).collect()
}

// ---- reading Rust ----------------------------------------------------------------------------

/// The source with comments, strings and characters replaced by spaces; lines stay lines.
fn strip(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    while at < chars.len() {
        let end = skip(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|&c| if c == '\n' { c } else { ' ' }));
            at = end;
        }
    }
    out
}

/// Where the comment or literal that starts at `at` ends; `at` if none starts there.
fn skip(chars: &[char], at: usize) -> usize {
    let next = |n: usize| chars.get(at + n).copied().unwrap_or(' ');
    let past = |from: usize, end: &str| {
        let end: Vec<char> = end.chars().collect();
        let found = (from..chars.len()).find(|&i| chars[i..].starts_with(&end));
        found.map_or(chars.len(), |i| i + end.len())
    };
    // `r"` and `br"` begin a raw string; the `r` of a longer word does not.
    let before = |n: usize| at.checked_sub(n).map_or(' ', |i| chars[i]);
    let raw = !is_word(before(1)) || before(1) == 'b' && !is_word(before(2));
    match chars[at] {
        '/' if next(1) == '/' => {
            chars[at..].iter().position(|&c| c == '\n').map_or(chars.len(), |n| at + n)
        }
        '/' if next(1) == '*' => past(at + 2, "*/"),
        '"' => quoted(chars, at + 1),
        'r' if raw => {
            let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
            match next(1 + hashes) {
                '"' => past(at + 2 + hashes, &format!("\"{}", "#".repeat(hashes))),
                _ => at,
            }
        }
        // A character; else a lifetime, which is code.
        '\'' if next(1) == '\\' => past(at + 3, "'"),
        '\'' if next(2) == '\'' => at + 3,
        _ => at,
    }
}

fn quoted(chars: &[char], mut at: usize) -> usize {
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether `word` stands in the line by itself, with `follows` right after it.
fn has_word(line: &str, word: &str, follows: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + word.len()..]);
        !before.ends_with(is_word) && !after.starts_with(is_word) && after.starts_with(follows)
    })
}

/// The last line of the item that begins at line `from` (from 0): that of its closing brace, or
/// of its semicolon if it has no body.
fn item_end(lines: &[&str], from: usize) -> usize {
    let (mut braces, mut brackets) = (0, 0);
    for (n, line) in lines.iter().enumerate().skip(from) {
        for c in line.chars() {
            let count = |set: &str| i32::from(set.contains(c));
            braces += count("{") - count("}");
            brackets += count("([") - count(")]");
            if brackets <= 0 && (c == '}' && braces <= 0 || c == ';' && braces == 0) {
                return n;
            }
        }
    }
    lines.len().saturating_sub(1)
}

fn test_lines(code: &str) -> Vec<bool> {
    let lines: Vec<&str> = code.lines().collect();
    let mut test = vec![false; lines.len()];
    for (n, _) in lines.iter().enumerate().filter(|(_, l)| l.contains("#[cfg(test)]")) {
        test[n..=item_end(&lines, n)].fill(true);
    }
    test
}

// ---- the rules -------------------------------------------------------------------------------

type Rooms = BTreeMap<String, BTreeSet<String>>;

/// The README's room table: a room and those it may import.
fn room_table(readme: &str) -> Rooms {
    let cells = |line: &str| -> Vec<String> {
        line.trim().trim_matches('|').split('|').map(|c| c.trim().to_owned()).collect()
    };
    let head = ["room", "what it is", "may import"];
    let rows: Vec<Vec<String>> = readme.lines().map(cells).collect();
    let start = rows.iter().position(|row| *row == head);
    let start = start.expect("README.md has the table `| room | what it is | may import |`");
    let rows: Vec<_> = rows[start + 2..].iter().take_while(|row| row.len() == 3).collect();
    let names = |cell: &str| -> BTreeSet<String> {
        let words = cell.split(|c: char| c.is_whitespace() || ",`/".contains(c));
        words.filter(|w| !w.is_empty() && *w != "-").map(str::to_owned).collect()
    };
    let all: BTreeSet<String> = rows.iter().flat_map(|row| names(&row[0])).collect();
    let allowed = |cell: &str| match (cell, cell.strip_prefix("all but")) {
        ("anything", _) => all.clone(),
        (_, Some(others)) => &all - &names(others),
        (cell, None) => names(cell),
    };
    let rooms = rows.iter().flat_map(|row| names(&row[0]).into_iter().map(|r| (r, &row[2])));
    rooms.map(|(room, cell)| (room, allowed(cell))).collect()
}

/// From `cargo metadata`: each member's folder, and the folders of the members that it builds
/// on. What only its tests use is free.
fn arrows(metadata: &serde_json::Value) -> Rooms {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    let folder = |package: &serde_json::Value| {
        let manifest = text(&package["manifest_path"]);
        manifest.rsplit('/').nth(1).unwrap_or_default().to_owned()
    };
    let packages = list(&metadata["packages"]);
    let folders: BTreeMap<String, String> =
        packages.iter().map(|p| (text(&p["name"]), folder(p))).collect();
    let uses = |package: &serde_json::Value| {
        let built = list(&package["dependencies"]).into_iter().filter(|d| d["kind"] != "dev");
        built.filter_map(|d| folders.get(&text(&d["name"])).cloned()).collect()
    };
    packages.iter().map(|p| (folder(p), uses(p))).collect()
}

fn imports(table: &Rooms, arrows: &Rooms, folders: &[&str]) -> Vec<String> {
    let listed: BTreeSet<&str> = table.keys().map(String::as_str).collect();
    let there = arrows.keys().map(String::as_str).chain(folders.iter().copied()).collect();
    let absent = (&listed - &there).into_iter().map(|r| format!("README lists {r}/: no room"));
    let unlisted = (&there - &listed).into_iter().map(|r| format!("{r}/ is not in README"));
    let mut offenders: Vec<String> = absent.chain(unlisted).collect();
    for (room, used) in arrows {
        let allowed = table.get(room).cloned().unwrap_or_default();
        offenders.extend((used - &allowed).iter().map(|u| format!("{room} may not import {u}")));
    }
    offenders
}

fn sizes(source: &Source) -> Vec<String> {
    let lines: Vec<&str> = source.code.lines().collect();
    let path = &source.path;
    let mut offenders = Vec::new();
    if lines.len() > FILE_LINES {
        offenders.push(format!("{path}: {} lines, more than {FILE_LINES}", lines.len()));
    }
    for (n, line) in source.text.lines().enumerate() {
        if line.chars().count() > COLUMNS {
            offenders.push(format!("{path}:{}: wider than {COLUMNS} columns", n + 1));
        }
    }
    for (n, _) in lines.iter().enumerate().filter(|(_, line)| has_word(line, "fn", " ")) {
        let length = item_end(&lines, n) + 1 - n;
        if length > FN_LINES {
            offenders.push(format!("{path}:{}: a function of {length} lines", n + 1));
        }
    }
    offenders
}

fn unsafe_code(source: &Source) -> Vec<String> {
    if source.room() == "sys" {
        return Vec::new();
    }
    source.find("unsafe outside sys/", |line, _| has_word(line, "unsafe", ""))
}

fn words(source: &Source) -> Vec<String> {
    let (path, room) = (source.path.as_str(), source.room());
    let has = |word: &'static str| move |line: &str, test: bool| !test && line.contains(word);
    let mut offenders = Vec::new();
    if !path.ends_with("build.rs") {
        offenders.extend(source.find("unwrap() outside tests", has(".unwrap()")));
    }
    if path != "sys/src/clock.rs" && !["cli", "lab"].contains(&room) {
        offenders.extend(source.find("the clock is sys/src/clock.rs", has("SystemTime::now")));
    }
    if !["rpc/src/pool.rs", "rpc/src/local.rs"].contains(&path) {
        let why = "channels are built in rpc/src/pool.rs";
        offenders.extend(source.find(why, has("Endpoint::from")));
    }
    offenders
}

fn unfinished(source: &Source) -> Vec<String> {
    // Put together here, so that this file is not its own offender.
    let words = [concat!("TO", "DO"), concat!("FIX", "ME")];
    let calls = [concat!("to", "do!"), concat!("unimpl", "emented!")];
    let word = |line: &str| words.iter().any(|m| has_word(line, m, ""));
    let call = |line: &str| calls.iter().any(|m| line.contains(m));
    let hits = source.text.lines().enumerate().filter(|(_, line)| word(line) || call(line));
    hits.map(|(n, _)| format!("{}:{}: unfinished", source.path, n + 1)).collect()
}

fn sleeps(source: &Source, allowed: &[(&str, &str)]) -> Vec<String> {
    let sleeping =
        |line: &str, _: bool| has_word(line, "sleep", "(") && !line.contains("fn sleep(");
    let hits = source.find("sleeps; if it must, say why in tests/tests/tidy.rs", sleeping);
    match (allowed.iter().any(|(path, _)| *path == source.path), hits.is_empty()) {
        (true, true) => vec![format!("{} does not sleep: no exception needed", source.path)],
        (true, false) => Vec::new(),
        (false, _) => hits,
    }
}

/// Members take every version from the workspace; only sections of dependencies count.
fn versions(source: &Source) -> Vec<String> {
    let (mut section, mut offenders) = (String::new(), Vec::new());
    let shared = source.path == "Cargo.toml";
    for (n, line) in source.text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']).to_owned();
        }
        let Some((key, value)) = line.split_once('=') else { continue };
        let (key, value) = (key.trim(), value.replace(' ', ""));
        let ours = value.contains("workspace=true") || value.contains("path=");
        let wrong = match section.rsplit_once("dependencies").map(|(_, name)| name) {
            Some("") if shared => value.contains("git=") || value == "\"*\"",
            Some("") => !ours && !key.ends_with(".workspace"),
            // `[dependencies.name]`: one key a line.
            Some(_) => matches!(key, "version" | "git"),
            None => false,
        };
        if wrong {
            offenders.push(format!("{}:{}: {key} has a version", source.path, n + 1));
        }
    }
    offenders
}

/// Tests that rows of a table name between backticks: `tests/tests/ps.rs::name` or
/// `krg-procview merge::tests::name`.
fn named_tests(semantics: &str) -> Vec<&str> {
    let rows = semantics.lines().filter(|line| line.trim_start().starts_with('|'));
    let ticked = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    let test = |t: &&str| t.contains("::") && (t.starts_with("krg-") || t.contains('/'));
    ticked.filter(test).collect()
}

fn promises(semantics: &str, tree: &[Source]) -> Vec<String> {
    let named = named_tests(semantics);
    if named.is_empty() {
        return vec!["docs/SEMANTICS.md: no row names a test".to_owned()];
    }
    let kept = |test: &&str| {
        let place = test.split("::").next().unwrap_or_default();
        let function = format!("fn {}", test.rsplit("::").next().unwrap_or_default());
        let room = place.trim_start_matches("krg-").split(['/', ' ']).next().unwrap_or_default();
        let here = tree.iter().filter(|s| s.is_rust() && s.room() == room);
        here.filter(|s| !place.ends_with(".rs") || s.path.ends_with(place))
            .any(|s| s.code.lines().any(|line| has_word(line, &function, "(")))
    };
    let broken = named.into_iter().filter(|test| !kept(test));
    broken.map(|test| format!("docs/SEMANTICS.md: no test {test}")).collect()
}

/// Paths that exist on one machine only.
fn private_paths(source: &Source) -> Vec<String> {
    let starts = |before: &str| !before.ends_with(|c: char| is_word(c) || "./}<>*-".contains(c));
    let private = |line: &str, _: bool| {
        let mut paths = ["/root/", "/home/", "/work/"].into_iter();
        paths.any(|path| line.match_indices(path).any(|(at, _)| starts(&line[..at])))
    };
    source.find("a path of one machine", private)
}

// ---- on the tree -----------------------------------------------------------------------------

fn assert_none(offenders: impl IntoIterator<Item = String>) {
    let offenders: Vec<String> = offenders.into_iter().collect();
    assert!(offenders.is_empty(), "{} offenders:\n{}", offenders.len(), offenders.join("\n"));
}

fn rust() -> Vec<Source> {
    tree().into_iter().filter(Source::is_rust).collect()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn rooms_import_only_what_their_row_allows() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata = serde_json::from_slice(&output.stdout).expect("metadata is JSON");
    let mut folders = vec!["docs", "packaging"];
    folders.retain(|folder| root().join(folder).is_dir());
    assert_none(imports(&room_table(&read("README.md")), &arrows(&metadata), &folders));
}

#[test]
fn files_functions_and_lines_are_short() {
    assert_none(rust().iter().flat_map(sizes));
}

#[test]
fn only_sys_is_unsafe() {
    assert_none(rust().iter().flat_map(unsafe_code));
}

#[test]
fn unwrap_clock_and_channels_stay_where_they_belong() {
    assert_none(rust().iter().flat_map(words));
}

#[test]
fn nothing_is_left_unfinished() {
    assert_none(tree().iter().flat_map(unfinished));
}

#[test]
fn nothing_sleeps_without_a_reason() {
    let rust = rust();
    let gone = SLEEPS.iter().filter(|(path, _)| rust.iter().all(|s| s.path != *path));
    let gone = gone.map(|(path, _)| format!("{path} does not exist: no exception needed"));
    assert_none(rust.iter().flat_map(|s| sleeps(s, SLEEPS)).chain(gone));
}

#[test]
fn every_version_is_the_workspaces() {
    assert_none(tree().iter().filter(|s| s.path.ends_with("Cargo.toml")).flat_map(versions));
}

#[test]
fn every_promise_has_the_test_it_names() {
    assert_none(promises(&read("docs/SEMANTICS.md"), &tree()));
}

#[test]
fn documents_name_no_path_of_one_machine() {
    let rooms = ["docs", "scripts", "packaging", "README.md", "Makefile"];
    let tree = tree();
    assert_none(tree.iter().filter(|s| rooms.contains(&s.room())).flat_map(private_paths));
}

// ---- on samples: every rule finds what it is for ---------------------------------------------

/// The line numbers of offenders of the form `PATH:LINE: WHY`.
fn at(offenders: &[String]) -> Vec<usize> {
    offenders.iter().filter_map(|o| o.split(':').nth(1)?.parse().ok()).collect()
}

const README: &str = "\
# krg

| room | what it is | may import |
|---|---|---|
| `types/` | words | - |
| `rpc/` | the wire | types |
| `node/` | the daemon | all but cli, lab |
| `cli/` `lab/` | tools | `types` `rpc` |
| `docs/` `packaging/` | | |

After.
";

#[test]
fn rooms_that_are_unlisted_absent_or_too_curious_are_found() {
    let table = room_table(README);
    let row = |room: &str| table[room].iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(row("types"), [""; 0]);
    assert_eq!(row("lab"), ["rpc", "types"]);
    assert!(row("node").contains(&"rpc") && !row("node").contains(&"lab"));

    let package = |name: &str, uses: &[(&str, &str)]| {
        let uses =
            uses.iter().map(|(name, kind)| serde_json::json!({"name": name, "kind": kind}));
        let manifest = format!("/x/{}/Cargo.toml", name.trim_start_matches("krg-"));
        let uses: Vec<_> = uses.collect();
        serde_json::json!({"name": name, "manifest_path": manifest, "dependencies": uses})
    };
    let metadata = serde_json::json!({"packages": [
        package("krg-types", &[("serde", ""), ("krg-rpc", "dev")]),
        package("krg-rpc", &[("krg-types", ""), ("krg-node", "")]),
        package("krg-node", &[("krg-rpc", "")]),
        package("krg-cli", &[]),
        package("krg-meta", &[]),
    ]});
    let found = imports(&table, &arrows(&metadata), &["docs", "packaging"]);
    let wanted =
        ["README lists lab/: no room", "meta/ is not in README", "rpc may not import node"];
    assert_eq!(found, wanted);
}

#[test]
fn long_files_functions_and_lines_are_found() {
    let function = |lines: usize| format!("fn f(a: [u8; 2]) {{\n{}}}\n", "a();\n".repeat(lines));
    assert!(sizes(&Source::new("a/src/b.rs", &function(68))).is_empty());
    assert_eq!(at(&sizes(&Source::new("a/src/b.rs", &function(69)))), [1]);
    let text = format!("{}\n{}\n", "x".repeat(100), "é".repeat(101));
    assert_eq!(at(&sizes(&Source::new("a/src/b.rs", &text))), [2]);
    assert_eq!(sizes(&Source::new("a/src/b.rs", &"\n".repeat(601))).len(), 1);
}

#[test]
fn unsafe_is_found_in_code_only() {
    let text = "// unsafe\n#![allow(unsafe_code)]\nlet s = \"\\\"unsafe\";\nunsafe { x() }\n\
        /* unsafe */ let c = '\"'; unsafe fn f<'a>() {}\nr#\"unsafe\"#;\n";
    assert_eq!(at(&unsafe_code(&Source::new("cli/src/a.rs", text))), [4, 5]);
    assert!(unsafe_code(&Source::new("sys/src/a.rs", text)).is_empty());
}

#[test]
fn misplaced_words_are_found_outside_tests() {
    let text = "fn f() { a.unwrap(); }\n#[cfg(test)]\nmod tests {\n  b.unwrap();\n}\n\
        c.unwrap();\nSystemTime::now();\nEndpoint::from_static(x);\n#[cfg(test)]\nmod golden;\n";
    assert_eq!(at(&words(&Source::new("node/src/a.rs", text))), [1, 6, 7, 8]);
    assert_eq!(at(&words(&Source::new("cli/src/a.rs", text))), [1, 6, 8]);
    assert_eq!(at(&words(&Source::new("rpc/src/pool.rs", text))), [1, 6, 7]);
    assert!(words(&Source::new("tests/tests/a.rs", text)).is_empty());
    assert_eq!(test_modules(&Source::new("node/src/a.rs", text)), ["node/src/a/golden.rs"]);
    assert_eq!(test_modules(&Source::new("node/src/lib.rs", text)), ["node/src/golden.rs"]);
}

#[test]
fn unfinished_work_is_found_in_any_file() {
    let text = ["// TO", "DO: later\nMASTODON\nto", "do!()\n# FIX", "ME\n"].concat();
    assert_eq!(at(&unfinished(&Source::new("scripts/a.sh", &text))), [1, 3, 4]);
}

#[test]
fn sleep_needs_a_reason_and_a_reason_a_sleep() {
    let text = "thread::sleep(x);\n// sleep(1)\nuse time::sleep;\nsleep(y);\nfn sleep() {}\n";
    let source = Source::new("node/src/a.rs", text);
    assert_eq!(at(&sleeps(&source, &[])), [1, 4]);
    assert!(sleeps(&source, &[("node/src/a.rs", "why")]).is_empty());
    let awake = Source::new("node/src/a.rs", "fn f() {}\n");
    assert_eq!(sleeps(&awake, &[("node/src/a.rs", "why")]).len(), 1);
}

#[test]
fn a_version_of_a_members_own_is_found() {
    let text = "[package]\nversion = \"1\"\n[dependencies]\na.workspace = true\nb = \"1\"\n\
        c = { workspace = true, features = [\"d\"] }\ne = { path = \"../e\" }\n\
        [dev-dependencies]\nf = { version = \"1\" }\n[dependencies.g]\nversion = \"1\"\n\
        [lints]\nworkspace = true\n";
    assert_eq!(at(&versions(&Source::new("cli/Cargo.toml", text))), [5, 9, 11]);
    let text = "[workspace.dependencies]\na = \"1\"\nb = { git = \"https://x\" }\nc = \"*\"\n";
    assert_eq!(at(&versions(&Source::new("Cargo.toml", text))), [3, 4]);
}

#[test]
fn a_promise_without_its_test_is_found() {
    let tree = [
        Source::new("tests/tests/ps.rs", "fn kept() {}\n// fn comment() {}\n"),
        Source::new("procview/src/merge.rs", "fn sums() {}\n"),
    ];
    let text = "| a | `tests/ps.rs::kept` |\n| b | `krg-procview merge::tests::sums` |\n\
        | c | `tests/ps.rs::comment` |\n| d | `tests/top.rs::kept` | `Vec::new` |\n\
        | e | `krg-procview merge::kept` |\nno row: `tests/ps.rs::gone`\n";
    let broken = ["tests/ps.rs::comment", "tests/top.rs::kept", "krg-procview merge::kept"];
    assert_eq!(promises(text, &tree), broken.map(|t| format!("docs/SEMANTICS.md: no test {t}")));
    assert_eq!(promises("| a | b |\n", &tree).len(), 1);
}

#[test]
fn paths_of_one_machine_are_found() {
    let text = "see /home/ann/x\n`/work/a`\n/mfs/2/home/x\n$HOME/root/x\n(/root/.cargo)\n";
    assert_eq!(at(&private_paths(&Source::new("docs/a.md", text))), [1, 2, 5]);
}
