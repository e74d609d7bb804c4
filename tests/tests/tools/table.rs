//! What tools print: columns under a header.

use std::collections::BTreeSet;

/// Lines under a header. The last column takes the rest of its line.
#[derive(Debug)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// The first line is the header.
    #[track_caller]
    pub fn parse(text: &str) -> Table {
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        let header: Vec<String> = words(lines.next().expect("a header"));
        let rows = lines.map(|line| {
            let row = cells(line, header.len());
            assert_eq!(row.len(), header.len(), "half a line: {line:?} under {header:?}");
            row
        });
        Table { rows: rows.collect(), header }
    }

    /// From the line on that begins with this word (mpstat and pidstat put a time before it).
    #[track_caller]
    pub fn below(text: &str, first: &str) -> Table {
        let at = text.lines().position(|line| words(line).first().is_some_and(|w| w == first));
        let lines: Vec<&str> = text.lines().collect();
        let from = at.unwrap_or_else(|| panic!("no line begins with {first}: {text}"));
        let end = lines[from..].iter().position(|line| line.trim().is_empty());
        let until = end.map_or(lines.len(), |n| from + n);
        Table::parse(&lines[from..until].join("\n"))
    }

    #[track_caller]
    fn column(&self, name: &str) -> usize {
        let at = self.header.iter().position(|h| h == name);
        at.unwrap_or_else(|| panic!("no column {name} in {:?}", self.header))
    }

    /// All of a column.
    #[track_caller]
    pub fn all(&self, name: &str) -> Vec<&str> {
        let at = self.column(name);
        self.rows.iter().map(|row| row[at].as_str()).collect()
    }

    /// The only row with this value in this column.
    #[track_caller]
    pub fn only(&self, column: &str, value: impl ToString) -> Row<'_> {
        let (at, value) = (self.column(column), value.to_string());
        let found: Vec<_> = self.rows.iter().filter(|row| row[at] == value).collect();
        assert_eq!(found.len(), 1, "{column} {value} is there {} times: {self:#?}", found.len());
        Row { table: self, cells: found[0] }
    }

    /// The numbers of a column, none of them twice.
    #[track_caller]
    pub fn unique(&self, column: &str) -> BTreeSet<u32> {
        let mut seen = BTreeSet::new();
        for cell in self.all(column) {
            let number = cell.parse().unwrap_or_else(|_| panic!("{column} {cell:?}: no number"));
            assert!(seen.insert(number), "{column} {number} is there twice: {self:#?}");
        }
        seen
    }
}

/// One line.
#[derive(Debug)]
pub struct Row<'a> {
    table: &'a Table,
    cells: &'a [String],
}

impl Row<'_> {
    /// What is in a column.
    #[track_caller]
    pub fn get(&self, column: &str) -> &str {
        &self.cells[self.table.column(column)]
    }

    /// The same as a number.
    #[track_caller]
    pub fn number(&self, column: &str) -> f64 {
        let cell = self.get(column);
        cell.parse().unwrap_or_else(|_| panic!("{column} {cell:?} is no number: {self:?}"))
    }
}

/// The words of a line.
pub fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// At most so many words, the last of them with all that follows.
fn cells(line: &str, count: usize) -> Vec<String> {
    let mut rest = line.trim();
    let mut out = Vec::new();
    while out.len() + 1 < count {
        let Some((word, more)) = rest.split_once(char::is_whitespace) else { break };
        out.push(word.to_owned());
        rest = more.trim_start();
    }
    out.push(rest.to_owned());
    out
}

/// The number behind a name at the start of a line, as in meminfo and lscpu.
#[track_caller]
pub fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(name));
    let line = line.unwrap_or_else(|| panic!("no {name}: {text}"));
    let number = line.trim_start_matches(':').split_whitespace().next().unwrap_or_default();
    number.parse().unwrap_or_else(|_| panic!("{name} {number:?} is no number"))
}
