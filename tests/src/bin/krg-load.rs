//! Writes as fast as it is answered, and says how fast that was: to a krgd, to an etcd, or to a
//! file with fdatasync. Behind `make bench`; one line of JSON.

use anyhow::{Context, Result, bail};
use krg_rpc::local;
use krg_rpc::pool;
use krg_rpc::proto::control::control_client::ControlClient;
use krg_rpc::proto::control::{ConfigGetRequest, ConfigSetRequest};
use krg_rpc::tonic;
use krg_types::limits::PROTOCOL_VERSION;
use std::io::{Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tonic::transport::Channel;

/// What is written.
const VALUE_BYTES: usize = 200;
/// Before it counts.
const WARM_UP: Duration = Duration::from_millis(500);
const USAGE: &str = "usage: krg-load {krg|read|etcd|fdatasync} TARGET WRITERS SECONDS";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, kind, target, writers, seconds] = &args[..] else { bail!(USAGE) };
    let (writers, seconds): (usize, f64) = (writers.parse()?, seconds.parse()?);
    let time = Duration::from_secs_f64(seconds);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let took = match kind.as_str() {
        "fdatasync" => fdatasync(Path::new(target), time)?,
        kind => runtime.block_on(crowd(kind, target, writers, time))?,
    };
    print(took, time);
    Ok(())
}

fn print(mut took_us: Vec<u64>, time: Duration) {
    took_us.sort_unstable();
    let at = |share: f64| took_us.get((took_us.len() as f64 * share) as usize).copied();
    let (p50, p99) = (at(0.5).unwrap_or(0), at(0.99).unwrap_or(0));
    let per_s = took_us.len() as f64 / time.as_secs_f64();
    println!(
        "{{\"count\":{},\"per_s\":{per_s:.1},\"p50_us\":{p50},\"p99_us\":{p99}}}",
        took_us.len()
    );
}

fn fdatasync(dir: &Path, time: Duration) -> Result<Vec<u64>> {
    let path = dir.join("krg-load.tmp");
    let mut file = std::fs::File::create(&path)?;
    file.write_all(&[0; 1 << 20])?;
    file.sync_all()?;
    file.rewind()?;
    let (begun, mut took) = (Instant::now(), Vec::new());
    while begun.elapsed() < time {
        let at = Instant::now();
        file.write_all(&[7; VALUE_BYTES])?;
        file.sync_data()?;
        took.push(at.elapsed().as_micros() as u64);
        if file.stream_position()? > 1 << 19 {
            file.rewind()?;
        }
    }
    std::fs::remove_file(path)?;
    Ok(took)
}

/// Many writers, each with one write under way.
async fn crowd(kind: &str, target: &str, writers: usize, time: Duration) -> Result<Vec<u64>> {
    let channel = match kind {
        "etcd" => pool::channel(target.parse().context("an address and a port")?),
        _ => local::connect(Path::new(target)).await?,
    };
    let mut crowd = JoinSet::new();
    for writer in 0..writers {
        let (kind, channel) = (kind.to_owned(), channel.clone());
        crowd.spawn(async move {
            let begun = Instant::now();
            let (mut took, mut n) = (Vec::new(), 0u64);
            while begun.elapsed() < WARM_UP + time {
                let key = format!("load/{writer}/{}", n % 64);
                let at = Instant::now();
                once(&kind, &channel, key).await?;
                n += 1;
                if begun.elapsed() > WARM_UP {
                    took.push(at.elapsed().as_micros() as u64);
                }
            }
            anyhow::Ok(took)
        });
    }
    let mut all = Vec::new();
    while let Some(one) = crowd.join_next().await {
        all.extend(one??);
    }
    Ok(all)
}

async fn once(kind: &str, channel: &Channel, key: String) -> Result<()> {
    let version = PROTOCOL_VERSION;
    match kind {
        "krg" => {
            let value = Some("v".repeat(VALUE_BYTES));
            let set = ConfigSetRequest { version, key, value, ..ConfigSetRequest::default() };
            ControlClient::new(channel.clone()).config_set(set).await?;
        }
        "read" => {
            let get = ConfigGetRequest { version, key, ..ConfigGetRequest::default() };
            ControlClient::new(channel.clone()).config_get(get).await?;
        }
        "etcd" => put(channel, key).await?,
        _ => bail!(USAGE),
    }
    Ok(())
}

/// The part of etcd's API that is needed: KV.Put with a key and a value.
#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PutReply {}

async fn put(channel: &Channel, key: String) -> Result<()> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await?;
    let codec = tonic_prost::ProstCodec::<PutRequest, PutReply>::default();
    let path = tonic::codegen::http::uri::PathAndQuery::from_static("/etcdserverpb.KV/Put");
    let put = PutRequest { key: key.into_bytes(), value: vec![b'v'; VALUE_BYTES] };
    client.unary(tonic::Request::new(put), path, codec).await?;
    Ok(())
}
