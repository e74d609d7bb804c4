//! The command lines of `krg top`, `krg renice` and `mosmon`.

use clap::Args;
use std::time::Duration;

/// Examples of `krg top`.
pub const TOP_EXAMPLES: &str = "\
Examples:
  krg top
  krg top -u www-data -s MEM%
  krg top --tree -d 5
  krg top -b -n 2 > report
  krg top --json -d 1 | jq '.processes[] | select(.cpu_percent > 50)'

Keys:
  F1 h ?     the keys               F2 S       the nodes: some, all, none
  F3 /       search                 F4 \\       show only lines with a text
  F5 t       tree                   F6 < >     sort by
  F7 ]       higher priority        F8 [       lower priority
  F9 k       send a signal          F10 q      end
  m          move to another node   n          one node's processes
  u          one user's             P M T N    sort by cpu, memory, time, number
  I          the other way round    Space U    tag, untag all
  c          tag with its children  F          follow a process
  + - *      fold the tree          K p Z      kernel threads, paths, pause

Exit codes:
  0  it was ended by its keys, or has printed all that was asked for
  1  it failed: the reason is on standard error
  2  the command line is wrong
";

/// Of `krg top`.
#[derive(Args)]
pub struct TopArgs {
    /// Look so often
    #[arg(short, long, value_name = "SECS", default_value = "2", value_parser = delay)]
    pub delay: Duration,
    /// Print tables, and take no keys
    #[arg(short, long)]
    pub batch: bool,
    /// End after so many tables
    #[arg(short = 'n', long, value_name = "COUNT")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Print JSON: what is true at the end of one delay
    #[arg(long)]
    pub json: bool,
    /// Only a user's processes, by his name or number
    #[arg(short, long, value_name = "USER")]
    pub user: Option<String>,
    /// Only these processes
    #[arg(short, long, value_name = "PID,...", value_delimiter = ',')]
    pub pid: Vec<u32>,
    /// Sort by a column, as its heading says; with a - before it the other way round
    #[arg(short, long, value_name = "COLUMN", allow_hyphen_values = true)]
    pub sort: Option<String>,
    /// Children below their parents
    #[arg(short, long)]
    pub tree: bool,
}

/// Seconds, at least a tenth.
fn delay(text: &str) -> Result<Duration, String> {
    let seconds: Option<f64> = text.replace(',', ".").parse().ok();
    let good = seconds.filter(|s| (0.1..=86_400.0).contains(s));
    good.map(Duration::from_secs_f64).ok_or_else(|| "seconds, 0.1 to 86400".into())
}

/// Examples of `krg renice`.
pub const RENICE_EXAMPLES: &str = "\
Examples:
  krg renice 10 8388613
  krg renice -n 5 8388613 12582917

The numbers are those that krg ps shows; one below 4194304 is a process of this machine. The kernel
of the process's node decides whether you may, as for renice(1) there.

Exit codes:
  0  all of them have it
  1  some do not: the reasons are on standard error
  2  the command line is wrong
";

/// Of `krg renice`.
#[derive(Args)]
pub struct ReniceArgs {
    /// The nice value, -20 to 19: the higher, the more it lets others run
    #[arg(short, long, value_name = "NICE", allow_negative_numbers = true)]
    pub nice: Option<i32>,
    /// Processes; without -n the first word is the nice value
    #[arg(value_name = "PID", required = true, allow_negative_numbers = true)]
    pub words: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_seconds() {
        assert_eq!(delay("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(delay("0,5"), Ok(Duration::from_millis(500)));
        for bad in ["", "0", "-1", "1s", "nan", "inf", "100000"] {
            assert!(delay(bad).is_err(), "{bad}");
        }
    }
}
