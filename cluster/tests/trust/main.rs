//! Who may talk to whom, over real connections: every kind of certificate, members that are
//! removed while connections live, and callers that mean harm.

mod net;

use krg_rpc::pool;
use krg_rpc::tls::Refusal;
use krg_types::limits::CLOCK_GRACE_S;
use net::*;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// Time for what must happen at once.
const AT_ONCE: Duration = Duration::from_secs(1);

fn says(result: Result<String, String>, wanted: &str) {
    match result {
        Err(words) => assert!(words.contains(wanted), "{words:?} lacks {wanted:?}"),
        Ok(seen) => panic!("it was let in as {seen}"),
    }
}

#[tokio::test]
async fn members_see_each_other() {
    let ca = authority();
    let (a, b) = (card(&ca, id(1, 1)), card(&ca, id(2, 2)));
    let server = trusting(&a, &[&ca], &[&a, &b]);
    let client = trusting(&b, &[&ca], &[&a, &b]);
    let address = serve(&server).await;
    assert_eq!(probe(&to(address, a.member, &client)).await, Ok("2.2".to_owned()));
    // By a name instead of a number, and to itself.
    let named = format!("localhost:{}", address.port());
    let channel = pool::secure_channel(named, a.member, client);
    assert_eq!(probe(&channel).await, Ok("2.2".to_owned()));
    assert_eq!(probe(&to(address, a.member, &server)).await, Ok("1.1".to_owned()));
}

#[tokio::test]
async fn who_has_no_certificate_reaches_what_is_for_joiners_only() {
    let ca = authority();
    let a = card(&ca, id(1, 1));
    let address = serve(&trusting(&a, &[&ca], &[&a])).await;
    let joiner = pool::pinned_channel(address.to_string(), ca.fingerprint());
    assert_eq!(join(&joiner).await, Ok("welcome".to_owned()));
    says(probe(&joiner).await, "join with a token (krg join)");
    says(echo(&joiner, b"x").await.map(|_| String::new()), "not a member");
}

#[tokio::test]
async fn a_wrong_pin_says_so() {
    let (ca, other) = (authority(), authority());
    let a = card(&ca, id(1, 1));
    let address = serve(&trusting(&a, &[&ca], &[&a])).await;
    let joiner = pool::pinned_channel(address.to_string(), other.fingerprint());
    says(join(&joiner).await, "the cluster's fingerprint differs from the token's");
    // The right authority's certificate beside a leaf that it has not signed.
    let mut forged = card(&other, id(1, 1));
    forged.own.chain[1] = ca.certificate_der().to_vec().into();
    let address = serve(&trusting(&forged, &[&ca], &[&forged])).await;
    let joiner = pool::pinned_channel(address.to_string(), ca.fingerprint());
    says(join(&joiner).await, "not signed by an authority");
    // A leaf alone.
    let mut alone = a.clone();
    alone.own.chain.truncate(1);
    let address = serve(&trusting(&alone, &[&ca], &[&a])).await;
    let joiner = pool::pinned_channel(address.to_string(), ca.fingerprint());
    says(join(&joiner).await, "the cluster's fingerprint differs from the token's");
}

#[tokio::test]
async fn another_authoritys_certificate_is_refused_on_both_sides() {
    let (ca, other) = (authority(), authority());
    let (a, b) = (card(&ca, id(1, 1)), card(&other, id(2, 2)));
    let address = serve(&trusting(&a, &[&ca], &[&a, &b])).await;
    let foreign = trusting(&b, &[&ca], &[&a, &b]);
    says(probe(&to(address, a.member, &foreign)).await, "its certificate is of another cluster");
    let client = trusting(&a, &[&ca], &[&a, &b]);
    let address = serve(&trusting(&b, &[&ca], &[&a, &b])).await;
    says(probe(&to(address, b.member, &client)).await, "not signed by an authority");
}

#[tokio::test]
async fn a_server_that_is_another_member_than_asked_for_is_refused() {
    let ca = authority();
    let (a, b) = (card(&ca, id(1, 1)), card(&ca, id(2, 2)));
    let address = serve(&trusting(&a, &[&ca], &[&a, &b])).await;
    let client = trusting(&b, &[&ca], &[&a, &b]);
    let wanted = Refusal::Another { wanted: id(3, 1), got: a.member };
    says(probe(&to(address, id(3, 1), &client)).await, &wanted.to_string());
}

#[tokio::test]
async fn a_certificate_is_valid_with_a_grace_on_both_sides() {
    let ca = authority();
    let a = card(&ca, id(1, 1));
    let grace = CLOCK_GRACE_S;
    // The last second of validity, and when it was signed (it is valid from a grace before).
    let spans = [
        ("just expired", now_s() - 5 * grace, now_s() - grace / 2, true),
        ("long expired", now_s() - 5 * grace, now_s() - 2 * grace, false),
        ("not valid yet", now_s() + grace * 3 / 2, now_s() + 5 * grace, true),
        ("not for long", now_s() + 3 * grace, now_s() + 5 * grace, false),
    ];
    for (what, signed_s, end_s, good) in spans {
        let b = card_of(&ca, id(2, 2), signed_s, end_s - signed_s);
        let (fresh, odd) = (trusting(&a, &[&ca], &[&a, &b]), trusting(&b, &[&ca], &[&a, &b]));
        let as_client = probe(&to(serve(&fresh).await, a.member, &odd)).await;
        let as_server = probe(&to(serve(&odd).await, b.member, &fresh)).await;
        if good {
            assert_eq!(as_client, Ok("2.2".to_owned()), "{what}");
            assert_eq!(as_server, Ok("1.1".to_owned()), "{what}");
        } else {
            says(as_client, "not valid at this time");
            says(as_server, "not valid at this time");
        }
    }
}

#[tokio::test]
async fn a_newcomer_is_believed_and_an_old_membership_is_not() {
    let ca = authority();
    let (a, b) = (card(&ca, id(1, 1)), card(&ca, id(2, 5)));
    let server = trusting(&a, &[&ca], &[&a, &b]);
    let address = serve(&server).await;
    let newcomer = card(&ca, id(3, 6));
    let client = trusting(&newcomer, &[&ca], &[&a, &newcomer]);
    assert_eq!(probe(&to(address, a.member, &client)).await, Ok("3.6".to_owned()));
    // Node 2 as it was before it joined again.
    let old = card(&ca, id(2, 2));
    let client = trusting(&old, &[&ca], &[&a, &old]);
    says(probe(&to(address, a.member, &client)).await, "it was removed from the cluster");
    // A certificate of a member that the cluster has not accepted from it.
    let second = card(&ca, b.member);
    let client = trusting(&second, &[&ca], &[&a, &second]);
    says(probe(&to(address, a.member, &client)).await, "not one that the cluster accepts now");
    assert_eq!(server.check(id(2, 2), &old.print), Err(Refusal::Removed(id(2, 2))));
    assert_eq!(server.check(id(2, 5), &old.print), Err(Refusal::Replaced(id(2, 5))));
    assert_eq!(server.check(id(4, 6), &old.print), Ok(()));
}

/// Node 2's connections to node 1 end when one of them hears that the other was removed.
async fn removal(by_server: bool, streaming: bool) {
    let ca = authority();
    let (a, b) = (card(&ca, id(1, 1)), card(&ca, id(2, 2)));
    let (server, client) = (trusting(&a, &[&ca], &[&a, &b]), trusting(&b, &[&ca], &[&a, &b]));
    let mut proxy = proxy(serve(&server).await).await;
    let channel = to(proxy.address, a.member, &client);
    assert_eq!(probe(&channel).await, Ok("2.2".to_owned()));
    let frames = if streaming { Some(stream(&channel).await) } else { None };
    proxy.opens(1).await;
    // The same members again: nothing ends.
    server.set_roster(roster(&[&a, &b]));
    client.set_roster(roster(&[&a, &b]));
    assert_eq!(probe(&channel).await, Ok("2.2".to_owned()));
    assert_eq!(*proxy.open.borrow(), 1);

    let (left, why) = if by_server {
        server.set_roster(krg_rpc::tls::Roster { newest_serial: 2, ..roster(&[&a]) });
        (server.check(b.member, &b.print), "it was removed from the cluster")
    } else {
        client.set_roster(krg_rpc::tls::Roster { newest_serial: 2, ..roster(&[&b]) });
        (client.check(a.member, &a.print), "node 1 was removed")
    };
    assert!(matches!(left, Err(Refusal::Removed(_))), "{left:?}");
    if let Some(mut frames) = frames {
        let end = timeout(AT_ONCE, frames.message()).await.expect("the stream ends at once");
        assert!(end.is_err(), "{end:?}");
    }
    timeout(AT_ONCE, proxy.opens(0)).await.expect("the connection ends at once");
    says(probe(&channel).await, why);
}

#[tokio::test]
async fn a_removed_members_idle_connection_ends() {
    removal(true, false).await;
}

#[tokio::test]
async fn a_removed_members_stream_ends() {
    removal(true, true).await;
}

#[tokio::test]
async fn an_idle_connection_to_a_removed_member_ends() {
    removal(false, false).await;
}

#[tokio::test]
async fn a_stream_from_a_removed_member_ends() {
    removal(false, true).await;
}

#[tokio::test]
async fn a_renewed_certificate_is_used_for_new_connections() {
    let ca = authority();
    let (a, b) = (card(&ca, id(1, 1)), card(&ca, id(2, 2)));
    let (server, client) = (trusting(&a, &[&ca], &[&a, &b]), trusting(&b, &[&ca], &[&a, &b]));
    let mut proxy = proxy(serve(&server).await).await;
    let channel = to(proxy.address, a.member, &client);
    assert_eq!(probe(&channel).await, Ok("2.2".to_owned()));
    let renewed = card(&ca, b.member);
    // First the cluster accepts both, then the node changes, then the old one ends.
    server.set_roster(roster(&[&a, &b, &renewed]));
    client.set_own(renewed.own.clone()).unwrap();
    assert_eq!(probe(&channel).await, Ok("2.2".to_owned()));
    assert_eq!(*proxy.open.borrow(), 1, "the old connection lives on");
    server.set_roster(roster(&[&a, &renewed]));
    timeout(AT_ONCE, proxy.opens(0)).await.expect("the old certificate's connection ends");
    assert_eq!(probe(&channel).await, Ok("2.2".to_owned()));
    // The server's own, too.
    let renewed = card(&ca, a.member);
    server.set_own(renewed.own.clone()).unwrap();
    client.set_roster(roster(&[&renewed]));
    timeout(AT_ONCE, proxy.opens(0)).await.expect("the old certificate's connection ends");
    assert_eq!(probe(&channel).await, Ok("2.2".to_owned()));
    // A key that is not the certificate's changes nothing.
    let mut mixed = b.own.clone();
    mixed.key_pkcs8_der = a.own.key_pkcs8_der.clone();
    assert!(client.set_own(mixed).is_err());
    assert_eq!(client.own_member(), b.member);
}

#[tokio::test]
async fn authorities_are_exchanged_while_connections_live() {
    let (old, new) = (authority(), authority());
    let (a, b) = (card(&new, id(1, 1)), card(&old, id(2, 2)));
    let server = trusting(&a, &[&new, &old], &[&a, &b]);
    let client = trusting(&b, &[&old], &[&a, &b]);
    let mut proxy = proxy(serve(&server).await).await;
    let channel = to(proxy.address, a.member, &client);
    says(probe(&channel).await, "not signed by an authority");
    client.set_authorities(anchors(&[&new, &old])).unwrap();
    assert_eq!(probe(&channel).await, Ok("2.2".to_owned()));
    proxy.opens(1).await;
    server.set_authorities(anchors(&[&new])).unwrap();
    timeout(AT_ONCE, proxy.opens(0)).await.expect("the old authority's connection ends");
    says(probe(&channel).await, "its certificate is of another cluster");
    assert!(server.set_authorities(Vec::new()).is_err());
    assert!(server.set_authorities(anchors(&[&new, &old, &new, &old, &new])).is_err());
}

#[tokio::test]
async fn who_dawdles_in_the_handshake_keeps_nobody_out() {
    let ca = authority();
    let (a, b) = (card(&ca, id(1, 1)), card(&ca, id(2, 2)));
    let address = serve(&trusting(&a, &[&ca], &[&a, &b])).await;
    let mut slow = Vec::new();
    for n in 0..200 {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        // The beginning of a handshake, and never its end; every other says nothing at all.
        if n % 2 == 0 {
            tcp.write_all(&[22, 3, 1, 2, 0, 1, 0]).await.unwrap();
        }
        slow.push(tcp);
    }
    let begun = Instant::now();
    let client = trusting(&b, &[&ca], &[&a, &b]);
    assert_eq!(probe(&to(address, a.member, &client)).await, Ok("2.2".to_owned()));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    // The oldest had to make room, well before its deadline; the newest ends by it.
    let end = timeout(AT_ONCE, slow[0].read(&mut [0; 64])).await.expect("it makes room");
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    let end = timeout(PATIENCE, slow[199].read(&mut [0; 64])).await.expect("a deadline");
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}

#[tokio::test]
async fn nonsense_does_nothing() {
    let ca = authority();
    let (a, b) = (card(&ca, id(1, 1)), card(&ca, id(2, 2)));
    let address = serve(&trusting(&a, &[&ca], &[&a, &b])).await;
    let noise: Vec<u8> =
        (0..100_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut record = vec![22, 3, 3, 64, 0];
    record.extend_from_slice(&noise[..16_384]);
    let plain = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let http = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
    for bytes in [noise, record, plain, http, vec![0], vec![0x80; 70_000]] {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        let _ = tcp.write_all(&bytes).await;
        let _ = tcp.shutdown().await;
        let mut answer = Vec::new();
        let end = timeout(PATIENCE, tcp.read_to_end(&mut answer)).await;
        assert!(end.is_ok(), "it ends");
        assert!(answer.len() < 64, "no more than an alert: {answer:?}");
    }
    let client = trusting(&b, &[&ca], &[&a, &b]);
    assert_eq!(probe(&to(address, a.member, &client)).await, Ok("2.2".to_owned()));
}

#[tokio::test]
async fn callers_without_a_certificate_are_bounded_and_members_are_not() {
    let ca = authority();
    let (a, b) = (card(&ca, id(1, 1)), card(&ca, id(2, 2)));
    let server = trusting(&a, &[&ca], &[&a, &b]);
    let mut proxy = proxy(serve(&server).await).await;
    let joiner = || pool::pinned_channel(proxy.address.to_string(), ca.fingerprint());
    let mut joiners = Vec::new();
    for _ in 0..64 {
        let channel = joiner();
        assert_eq!(join(&channel).await, Ok("welcome".to_owned()));
        joiners.push(channel);
    }
    let one_more = joiner();
    assert!(!joins(&one_more).await);
    let client = trusting(&b, &[&ca], &[&a, &b]);
    assert_eq!(probe(&to(proxy.address, a.member, &client)).await, Ok("2.2".to_owned()));
    drop(joiners);
    proxy.open.wait_for(|open| *open <= 1).await.unwrap();
    let freed = async { while !joins(&one_more).await {} };
    timeout(PATIENCE, freed).await.expect("places become free");
}

#[tokio::test]
async fn an_eavesdropper_reads_nothing() {
    let marker = b"the quick brown fox jumps over the lazy dog".repeat(50);
    let shows = |seen: &[u8]| seen.windows(19).any(|w| w == b"the quick brown fox");
    let plain = proxy(serve_plainly().await).await;
    assert_eq!(echo(&pool::channel(plain.address), &marker).await, Ok(marker.clone()));
    assert!(shows(&plain.seen.lock().unwrap()), "the proxy sees what is plain");

    let ca = authority();
    let (a, b) = (card(&ca, id(1, 1)), card(&ca, id(2, 2)));
    let proxy = proxy(serve(&trusting(&a, &[&ca], &[&a, &b])).await).await;
    let client = trusting(&b, &[&ca], &[&a, &b]);
    let channel = to(proxy.address, a.member, &client);
    assert_eq!(echo(&channel, &marker).await, Ok(marker.clone()));
    let seen = proxy.seen.lock().unwrap();
    assert!(seen.len() > 2 * marker.len(), "{} bytes", seen.len());
    assert!(!shows(&seen));
    assert!(!seen.windows(10).any(|w| w == b"member.krg"), "not even who calls whom");
}
