//! `krg config`: the configuration that all nodes share.

use super::cluster::no_leader;
use crate::args::config::ConfigCommand;
use crate::args::value;
use crate::daemon::{self, AGREE_MAX};
use crate::text::one_line;
use anyhow::{Context, Result, anyhow, bail};
use krg_rpc::proto::control::{
    ConfigEvent, ConfigGetRequest, ConfigPair, ConfigReply, ConfigSetReply, ConfigSetRequest,
    ConfigWatchRequest,
};
use krg_types::limits::{CONFIG_VALUE_BYTES_MAX, PROTOCOL_VERSION};
use serde_json::{Value, json};
use std::io::{Read, Write};

/// krgd gives up before krg does, so that the answer is its.
const SET_MAX_MS: u32 = 9_000;
/// The exit code of a condition that did not hold.
const NOT_NOW: u8 = 3;

/// Runs it; returns the exit code.
pub fn run(command: ConfigCommand) -> Result<u8> {
    match command {
        ConfigCommand::Get { key, linearizable, json } => get(key, linearizable, json),
        ConfigCommand::List { prefix, linearizable, json } => list(prefix, linearizable, json),
        ConfigCommand::Set { key, value, if_revision } => {
            let value = if value == "-" { from(std::io::stdin().lock())? } else { value };
            set(key, Some(value), if_revision)
        }
        ConfigCommand::Delete { key, if_revision } => set(key, None, if_revision),
        ConfigCommand::Watch { key, prefix, from, json } => {
            if key.is_empty() && !prefix {
                bail!("a key is needed, or --prefix");
            }
            let version = PROTOCOL_VERSION;
            watch(ConfigWatchRequest { version, key, prefix, from }, json)
        }
    }
}

/// A value from standard input. One line end at its end is an editor's, not the value's.
fn from(input: impl Read) -> Result<String> {
    let mut bytes = Vec::new();
    let read = input.take(CONFIG_VALUE_BYTES_MAX as u64 + 2).read_to_end(&mut bytes);
    read.context("cannot read the value from standard input")?;
    let mut text = String::from_utf8(bytes).map_err(|_| anyhow!("a value is text (UTF-8)"))?;
    if text.ends_with('\n') {
        text.pop();
    }
    value::config_value(&text).map_err(|_| {
        anyhow!("a value has at most {CONFIG_VALUE_BYTES_MAX} bytes, this one has more")
    })
}

fn ask(key: String, prefix: bool, linearizable: bool) -> Result<ConfigReply> {
    let version = PROTOCOL_VERSION;
    let request = ConfigGetRequest { version, key, prefix, linearizable };
    let reply = daemon::ask(AGREE_MAX, async |mut krgd| krgd.config_get(request).await)?;
    if reply.stale {
        eprintln!("krg: {}", no_leader(reply.leader_age_ms));
    }
    Ok(reply)
}

fn get(key: String, linearizable: bool, as_json: bool) -> Result<u8> {
    let reply = ask(key.clone(), false, linearizable)?;
    let Some(pair) = reply.pairs.iter().find(|pair| pair.key == key) else {
        bail!("there is no key {key}");
    };
    if as_json {
        let mut value = of_pair(pair);
        freshness(&mut value, &reply, "at_revision");
        println!("{}", serde_json::to_string_pretty(&value)?);
    } else {
        println!("{}", pair.value);
    }
    Ok(0)
}

fn list(prefix: String, linearizable: bool, as_json: bool) -> Result<u8> {
    let reply = ask(prefix, true, linearizable)?;
    if as_json {
        let mut value = json!({ "pairs": reply.pairs.iter().map(of_pair).collect::<Vec<_>>() });
        freshness(&mut value, &reply, "revision");
        println!("{}", serde_json::to_string_pretty(&value)?);
    } else {
        for pair in &reply.pairs {
            println!("{} {} {}", pair.revision, pair.key, one_line(&pair.value));
        }
    }
    Ok(0)
}

fn of_pair(pair: &ConfigPair) -> Value {
    json!({ "key": pair.key, "value": pair.value, "revision": pair.revision })
}

/// How new an answer is.
fn freshness(value: &mut Value, reply: &ConfigReply, revision: &str) {
    value[revision] = json!(reply.revision);
    value["stale"] = json!(reply.stale);
    value["leader_age_ms"] = json!(reply.leader_age_ms);
}

/// Has a key set, or deleted.
pub fn put(
    key: String,
    value: Option<String>,
    if_revision: Option<u64>,
) -> Result<ConfigSetReply> {
    let (version, timeout_ms) = (PROTOCOL_VERSION, SET_MAX_MS);
    // What is read here next is what was set.
    let at_once = false;
    let request = ConfigSetRequest { version, key, value, if_revision, timeout_ms, at_once };
    daemon::ask(AGREE_MAX, async |mut krgd| krgd.config_set(request).await)
}

fn set(key: String, value: Option<String>, if_revision: Option<u64>) -> Result<u8> {
    let reply = put(key.clone(), value, if_revision)?;
    if !reply.done {
        match reply.revision {
            0 => eprintln!("krg: {key} is not there: nothing was changed"),
            now => eprintln!("krg: {key} is at revision {now}: nothing was changed"),
        }
        return Ok(NOT_NOW);
    }
    println!("{}", reply.revision);
    Ok(0)
}

fn watch(request: ConfigWatchRequest, as_json: bool) -> Result<u8> {
    let mut next = request.from;
    daemon::follow(
        Some(AGREE_MAX),
        async |mut krgd| krgd.config_watch(request).await,
        |event| {
            if event.gap && !as_json {
                eprintln!(
                    "krg: older changes are not known one by one: what is there now follows"
                );
            }
            next = event.revision.saturating_add(1);
            // An event that only tells of a gap has no key.
            if as_json || !event.key.is_empty() {
                let line = if as_json { json_line(&event) } else { plain_line(&event) };
                let mut out = std::io::stdout().lock();
                writeln!(out, "{line}").and_then(|()| out.flush())?;
            }
            Ok(())
        },
    )?;
    bail!("krgd ended the watch: go on with --from {next}")
}

fn json_line(event: &ConfigEvent) -> String {
    json!({
        "revision": event.revision,
        "key": event.key,
        "value": event.value,
        "gap": event.gap,
    })
    .to_string()
}

/// `REVISION KEY VALUE`. Only a deletion is followed by a plain parenthesis.
fn plain_line(event: &ConfigEvent) -> String {
    let (revision, key) = (event.revision, &event.key);
    match event.value.as_deref() {
        None => format!("{revision} {key} (deleted)"),
        Some(value) if value.starts_with('(') => {
            format!("{revision} {key} \\{}", one_line(value))
        }
        Some(value) => format!("{revision} {key} {}", one_line(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(value: Option<&str>) -> ConfigEvent {
        ConfigEvent {
            revision: 7,
            key: "k".into(),
            value: value.map(str::to_owned),
            ..ConfigEvent::default()
        }
    }

    #[test]
    fn one_event_is_one_line_that_cannot_be_mistaken() {
        assert_eq!(plain_line(&event(Some("a\nb"))), "7 k a\\nb");
        assert_eq!(plain_line(&event(None)), "7 k (deleted)");
        assert_eq!(plain_line(&event(Some("(deleted)"))), "7 k \\(deleted)");
        assert_eq!(
            json_line(&event(None)),
            r#"{"gap":false,"key":"k","revision":7,"value":null}"#
        );
    }

    #[test]
    fn a_value_from_a_file_ends_where_its_text_does() {
        assert_eq!(from(&b"a\nb\n"[..]).unwrap(), "a\nb");
        assert_eq!(from(&b"a\n\n"[..]).unwrap(), "a\n");
        let long = vec![b'v'; CONFIG_VALUE_BYTES_MAX];
        assert!(from(&[&long[..], b"\n"].concat()[..]).is_ok());
        assert!(from(&[&long[..], b"v\n"].concat()[..]).is_err());
        assert!(from(&[&long[..], b"vv"].concat()[..]).is_err());
        assert!(from(&[0xff][..]).is_err());
    }
}
