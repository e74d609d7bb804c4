//! `krg cluster token`: what admits a machine.

use super::{VERSION, say};
use crate::args::cluster::TokenCommand;
use crate::daemon::{self, AGREE_MAX};
use crate::{table, text};
use anyhow::Result;
use krg_rpc::proto::control::{
    TokenCreateRequest, TokenInfo, TokenListRequest, TokenRevokeRequest,
};
use serde_json::json;

/// Runs it; returns the exit code.
pub fn run(command: TokenCommand) -> Result<u8> {
    match command {
        TokenCommand::Create { valid, count, note, json } => {
            let request = TokenCreateRequest { version: VERSION, valid_ms: valid, count, note };
            create(request, json)
        }
        TokenCommand::List { json } => list(json),
        TokenCommand::Revoke { id } => {
            let request = TokenRevokeRequest { version: VERSION, id };
            say(&daemon::ask(AGREE_MAX, async |mut krgd| krgd.token_revoke(request).await)?);
            Ok(0)
        }
    }
}

/// Only tokens go to standard output, so that a script can take them from there.
fn create(request: TokenCreateRequest, json: bool) -> Result<u8> {
    let reply = daemon::ask(AGREE_MAX, async |mut krgd| krgd.token_create(request).await)?;
    if json {
        let value = json!({ "tokens": reply.tokens, "valid_ms": reply.valid_ms });
        println!("{}", serde_json::to_string_pretty(&value)?);
        return Ok(0);
    }
    reply.tokens.iter().for_each(|token| println!("{token}"));
    let each = if reply.tokens.len() == 1 { "good" } else { "each good" };
    eprintln!("krg: {each} for one node, for {}; there:", text::duration(reply.valid_ms));
    eprintln!("krg:   sudo krg join ADDRESS-OF-THIS-NODE --token -");
    Ok(0)
}

fn list(json: bool) -> Result<u8> {
    let request = TokenListRequest { version: VERSION };
    let tokens = daemon::ask(AGREE_MAX, async |mut krgd| krgd.token_list(request).await)?.tokens;
    if json {
        let value: Vec<_> = tokens.iter().map(as_json).collect();
        println!("{}", serde_json::to_string_pretty(&value)?);
    } else {
        let rows: Vec<_> = tokens.iter().map(cells).collect();
        print!("{}", table::render(&["ID", "STATE", "LEFT", "NODE", "NOTE"], &rows));
    }
    Ok(0)
}

fn as_json(token: &TokenInfo) -> serde_json::Value {
    json!({
        "id": token.id,
        "state": token.state,
        "left_ms": token.left_ms,
        "used_by": (token.used_by > 0).then_some(token.used_by),
        "note": token.note,
    })
}

fn cells(token: &TokenInfo) -> Vec<String> {
    let left = if token.state == "open" { text::duration(token.left_ms) } else { "-".into() };
    let node = if token.used_by > 0 { token.used_by.to_string() } else { "-".into() };
    vec![token.id.clone(), token.state.clone(), left, node, text::one_line(&token.note)]
}
