//! Join tokens.

use super::{CHANGE_MAX, agree, done, failed};
use crate::life::Station;
use krg_cluster::fingerprint;
use krg_cluster::token::Token;
use krg_meta::command::Command;
use krg_meta::table::tokens;
use krg_rpc::proto::control as wire;
use krg_rpc::tonic::{Response, Status};
use krg_types::limits::TOKENS_PER_REQUEST_MAX;
use krg_types::{MemberId, NodeId};

/// How long a token is good for if nobody says, ms.
const VALID_MS: u64 = 86_400_000;

/// Makes tokens. They pin the authority that signs now.
pub async fn create(
    station: &Station,
    ask: wire::TokenCreateRequest,
) -> Result<Response<wire::TokenCreateReply>, Status> {
    let count = ask.count.max(1);
    if count > TOKENS_PER_REQUEST_MAX {
        let words = format!("at most {TOKENS_PER_REQUEST_MAX} tokens at once");
        return Err(Status::invalid_argument(words));
    }
    let valid_ms = if ask.valid_ms == 0 { VALID_MS } else { ask.valid_ms };
    let view = station.meta.view();
    let newest = view.state.authorities.iter().max_by_key(|(_, row)| row.value.number);
    let pin = newest.and_then(|(text, _)| fingerprint::from_hex(text));
    let pin =
        pin.ok_or_else(|| Status::unavailable("the cluster's authority is not known yet"))?;
    let mut tokens = Vec::new();
    let mut agreed = tokio::task::JoinSet::new();
    for _ in 0..count {
        let token = Token::new(pin).map_err(|e| Status::internal(e.to_string()))?;
        let command = Command::Tokens(tokens::Command::Create {
            id: token.id().to_owned(),
            hash: fingerprint::to_hex(&token.secret_hash()),
            valid_ms,
            note: ask.note.clone(),
        });
        tokens.push(token.to_string());
        // All at once: they share entries of the log.
        let meta = station.meta.clone();
        agreed.spawn(async move { meta.propose(command, CHANGE_MAX).await });
    }
    while let Some(result) = agreed.join_next().await {
        result.map_err(|e| Status::internal(e.to_string()))?.map_err(failed)?;
    }
    Ok(Response::new(wire::TokenCreateReply { tokens, valid_ms }))
}

/// Every token that is known, without its secret.
pub fn list(station: &Station) -> wire::TokenListReply {
    let view = station.meta.view();
    let now_ms = station.meta.clock_ms();
    let info = |(id, row): (&str, &krg_meta::table::Row<tokens::Token>)| wire::TokenInfo {
        id: id.to_owned(),
        left_ms: row.value.expires_ms.saturating_sub(now_ms),
        state: row.value.word(now_ms).to_owned(),
        note: row.value.note.clone(),
        used_by: row.value.used_by.and_then(MemberId::node).map_or(0, NodeId::get),
    };
    wire::TokenListReply { tokens: view.state.tokens.iter().map(info).collect() }
}

/// Takes one back.
pub async fn revoke(station: &Station, id: String) -> super::Answer<wire::Done> {
    let command = Command::Tokens(tokens::Command::Revoke { id: id.clone() });
    agree(station, command).await?;
    done(format!("token {id} is revoked"))
}
