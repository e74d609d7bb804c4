//! `krg join` and `krg leave`: this machine's membership.

use super::cluster::say;
use crate::args::cluster::JoinArgs;
use crate::args::value;
use crate::daemon::{self, JOIN_MAX};
use anyhow::{Context, Result};
use krg_rpc::proto::control::{JoinRequest, LeaveRequest};
use krg_types::limits::PROTOCOL_VERSION;
use std::io::BufRead;

/// More than any token is long.
const LINE_BYTES_MAX: u64 = 4096;

/// Makes this machine a member.
pub fn join(args: JoinArgs) -> Result<u8> {
    let token = match args.token.as_deref() {
        None | Some("") => {
            eprintln!(
                "krg: a token is needed: on a member, sudo krg cluster token create; here, \
                 --token - and the token on standard input (or KRG_TOKEN)"
            );
            return Ok(2);
        }
        Some("-") => value::token(&line(std::io::stdin().lock())?),
        Some(token) => value::token(token),
    };
    let token = match token {
        Ok(token) => token,
        Err(why) => {
            eprintln!("krg: {why}");
            return Ok(2);
        }
    };
    let request = JoinRequest {
        version: PROTOCOL_VERSION,
        address: args.address,
        token,
        node: args.node.map_or(0, |n| n.get()),
        force: args.force,
    };
    let reply = daemon::ask(JOIN_MAX, async |mut krgd| krgd.join(request).await)?;
    let (node, cluster, nodes) = (reply.node, reply.cluster, reply.nodes);
    println!("this machine is node {node} of the cluster {cluster}, which has {nodes} nodes now");
    Ok(0)
}

fn line(input: impl BufRead) -> Result<String> {
    let mut text = String::new();
    input
        .take(LINE_BYTES_MAX)
        .read_line(&mut text)
        .context("cannot read the token from standard input")?;
    Ok(text)
}

/// Ends this machine's membership.
pub fn leave(force: bool) -> Result<u8> {
    let request = LeaveRequest { version: PROTOCOL_VERSION, force };
    say(&daemon::ask(JOIN_MAX, async |mut krgd| krgd.leave(request).await)?);
    Ok(0)
}
