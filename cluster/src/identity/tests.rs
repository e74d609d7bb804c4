//! An identity comes back as it was written, whenever a write was interrupted, and nothing that
//! does not fit is believed.

use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;

const NOW_S: u64 = 1_800_000_000;

fn node(n: u32) -> NodeId {
    NodeId::new(n).unwrap()
}

fn saved() -> (TempDir, Identity, Ca) {
    let dir = tempfile::tempdir().unwrap();
    let (identity, ca) = founder("lab", 5, node(2), "10.0.0.2:7600", NOW_S).unwrap();
    identity.save(dir.path()).unwrap();
    (dir, identity, ca)
}

fn mode(path: PathBuf) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// The error's text and the file it names.
fn refused(dir: &TempDir) -> (String, String) {
    let error = Identity::load(dir.path()).unwrap_err();
    let path = match &error {
        IdentityError::Io { path, .. }
        | IdentityError::File { path, .. }
        | IdentityError::Permissions { path, .. } => path.clone(),
        IdentityError::Ca(e) => panic!("{e}"),
    };
    (path.file_name().unwrap().to_string_lossy().into_owned(), error.to_string())
}

#[test]
fn a_founder_comes_back() {
    let (dir, identity, ca) = saved();
    assert_eq!(Identity::load(dir.path()), Ok(Some(identity.clone())));
    assert_eq!(identity.not_after_unix_s(), NOW_S + CERTIFICATE_LIFETIME_S);
    assert_eq!(identity.own().chain.len(), 2);
    assert_eq!(fingerprint::of(&identity.own().chain[1]), ca.fingerprint());
    assert_eq!(identity.credentials().unwrap().own_member(), MemberId::new(node(2), 1));
    let files = dir.path().join("identity");
    assert_eq!(mode(files.clone()), 0o700);
    assert_eq!([NODE_KEY, CA_KEY].map(|name| mode(files.join(name))), [0o600; 2]);
    assert!(!format!("{identity:?}").contains("key"));
}

#[test]
fn without_any_file_there_is_none() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(Identity::load(dir.path()), Ok(None));
    assert_eq!(Identity::load(&dir.path().join("absent")), Ok(None));
    fs::create_dir(dir.path().join("identity")).unwrap();
    assert_eq!(Identity::load(dir.path()), Ok(None));
}

#[test]
fn updates_are_kept() {
    let (dir, mut identity, ca) = saved();
    let request = csr(&identity.key_pkcs8_der).unwrap();
    let renewed = ca.sign(&request, identity.member, NOW_S + 9, 86_400).unwrap();
    identity.update_certificate(dir.path(), renewed.clone()).unwrap();
    identity.set_ca_keys(dir.path(), None).unwrap();
    let newer = Ca::new("lab", NOW_S, LIFETIME_DAYS).unwrap();
    let both = [&newer, &ca].map(|ca| ca.certificate_der().to_vec()).to_vec();
    identity.set_authorities(dir.path(), both).unwrap();
    assert!(!dir.path().join("identity").join(CA_KEY).exists());
    identity.set_ca_keys(dir.path(), Some(vec![newer.clone(), ca])).unwrap();
    let loaded = Identity::load(dir.path()).unwrap().unwrap();
    assert_eq!(loaded, identity);
    assert_eq!(loaded.certificate_der, renewed);
    // What does not fit is neither written nor kept in memory.
    let foreign = newer.sign(&request, MemberId::new(node(3), 1), NOW_S, 86_400).unwrap();
    assert!(identity.update_certificate(dir.path(), foreign).is_err());
    assert_eq!(Identity::load(dir.path()), Ok(Some(identity)));
}

#[test]
fn an_interrupted_exchange_is_completed() {
    let (dir, old, ca) = saved();
    let mut new = old.clone();
    let request = csr(&new.key_pkcs8_der).unwrap();
    new.certificate_der = ca.sign(&request, new.member, NOW_S + 9, 86_400).unwrap();
    let path = |name: &str| dir.path().join(name);
    let loads = |wanted: &Identity| {
        assert_eq!(Identity::load(dir.path()).as_ref(), Ok(&Some(wanted.clone())));
        assert!(path("identity").exists() && !path("identity.old").exists());
    };
    // Stopped before the first rename: the new one may be incomplete and does not count.
    disk::write(&path("identity.new"), &new).unwrap();
    fs::remove_file(path("identity.new").join(NODE_CRT)).unwrap();
    loads(&old);
    fs::remove_dir_all(path("identity.new")).unwrap();
    // Between the two renames.
    disk::write(&path("identity.new"), &new).unwrap();
    fs::rename(path("identity"), path("identity.old")).unwrap();
    loads(&new);
    // After them.
    disk::write(&path("identity.old"), &old).unwrap();
    loads(&new);
    // The very first save, before its rename: whole, or cut off.
    fs::rename(path("identity"), path("identity.new")).unwrap();
    loads(&new);
    fs::rename(path("identity"), path("identity.new")).unwrap();
    fs::remove_file(path("identity.new").join(MEMBER_JSON)).unwrap();
    assert_eq!(Identity::load(dir.path()), Ok(None));
    old.save(dir.path()).unwrap();
    loads(&old);
}

#[test]
fn a_file_that_is_missing_or_cut_off_is_named_and_nothing_is_deleted() {
    for name in [NODE_KEY, NODE_CRT, CA_CRT, CA_KEY, MEMBER_JSON] {
        let (dir, ..) = saved();
        let path = dir.path().join("identity").join(name);
        let text = fs::read(&path).unwrap();
        for length in [0, 1, text.len() / 2, text.len() - 10] {
            fs::write(&path, &text[..length]).unwrap();
            let (file, why) = refused(&dir);
            assert_eq!(file, name, "{length}: {why}");
            assert!(why.contains("krg join"), "{why}");
        }
        fs::write(&path, vec![b'x'; 300 << 10]).unwrap();
        assert_eq!(refused(&dir).0, name);
        fs::write(&path, [0xff]).unwrap();
        assert_eq!(refused(&dir).0, name);
        fs::remove_file(&path).unwrap();
        if name == CA_KEY {
            assert_eq!(Identity::load(dir.path()).unwrap().unwrap().cas, None);
        } else {
            assert_eq!(refused(&dir).0, name);
        }
        fs::write(&path, &text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(Identity::load(dir.path()).unwrap().is_some(), "{name}");
    }
}

#[test]
fn files_of_different_identities_are_not_mixed() {
    let (_other_dir, other, other_ca) = saved();
    let (dir, identity, ca) = saved();
    let files = dir.path().join("identity");
    let swapped = |name: &str, text: &str| {
        let own = fs::read(files.join(name)).unwrap();
        fs::write(files.join(name), text).unwrap();
        let refused = refused(&dir);
        fs::write(files.join(name), own).unwrap();
        refused
    };
    use crate::ca::{certificate_pem, key_pem};
    assert_eq!(swapped(NODE_KEY, &key_pem(&other.key_pkcs8_der)).0, NODE_KEY);
    assert_eq!(swapped(NODE_CRT, &certificate_pem(&other.certificate_der)).0, NODE_KEY);
    assert_eq!(swapped(CA_KEY, &other_ca.key_pem()).0, CA_KEY);
    fs::remove_file(files.join(CA_KEY)).unwrap();
    let (file, why) = swapped(CA_CRT, &other_ca.certificate_pem());
    assert_eq!(file, NODE_CRT);
    assert!(why.contains("no authority"), "{why}");
    let request = csr(&identity.key_pkcs8_der).unwrap();
    let of_another = ca.sign(&request, MemberId::new(node(2), 9), NOW_S, 86_400).unwrap();
    let (file, why) = swapped(NODE_CRT, &certificate_pem(&of_another));
    assert_eq!(file, NODE_CRT);
    assert!(why.contains("2.9") && why.contains("2.1"), "{why}");
    let json = fs::read_to_string(files.join(MEMBER_JSON)).unwrap();
    for (from, to) in [
        ("\"version\": 1", "\"version\": 2"),
        ("\"node\": 2", "\"node\": 3"),
        ("\"node\": 2", "\"node\": 256"),
        ("\"member\": 258", "\"member\": 0"),
        ("\"newest_serial\": 1", "\"newest_serial\": 0"),
        ("\"cluster\": \"lab\"", "\"cluster\": \"\""),
    ] {
        assert!(json.contains(from), "{json}");
        let (file, why) = swapped(MEMBER_JSON, &json.replacen(from, to, 1));
        assert_eq!(file, MEMBER_JSON, "{to}: {why}");
    }
}

#[test]
fn a_key_that_others_may_read_is_refused_with_the_remedy() {
    for name in [NODE_KEY, CA_KEY] {
        let (dir, ..) = saved();
        let path = dir.path().join("identity").join(name);
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let why = refused(&dir).1;
            assert!(why.contains(&format!("chmod 600 {}", path.display())), "{why}");
        }
    }
}
