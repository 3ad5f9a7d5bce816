//! The store and the arithmetic of expiry.

use super::fault::Fault;
use super::profile::Profile;
use super::secrets::text;
use super::settings::{Settings, TokenUse};
use super::store::{Store, Tokens};
use super::token::{REFRESH_BEFORE, fresh_in};
use crate::secret::Secret;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn secret(text: &str) -> Option<Secret> {
    Some(Secret::new(text.as_bytes().to_vec()))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::at(folder.path().join("a/staunch")).unwrap();
    (folder, store)
}

#[tokio::test]
async fn tokens_come_back_as_they_were_and_only_their_owner_can_read_them() {
    let (folder, store) = store();
    let profile = Profile::default();
    let lock = store.lock(&profile).await.unwrap();
    let tokens = Tokens {
        issuer: "https://i".into(),
        access: secret("at-canary"),
        access_expires: Some(7),
        refresh: secret("rt-canary"),
        ..Tokens::default()
    };
    for _ in 0..2 {
        store.keep_tokens(&profile, &tokens, &lock).unwrap();
    }
    let mut back = store.tokens(&profile).unwrap().unwrap();
    assert_eq!(text(back.refresh.as_ref().unwrap()), "rt-canary");
    assert!(back.id.is_none() && back.take(TokenUse::Id).is_none());
    let (access, expires) = back.take(TokenUse::Access).unwrap();
    assert_eq!((text(&access), expires), ("at-canary", Some(UNIX_EPOCH + Duration::from_secs(7))));
    assert!(!format!("{tokens:?}").contains("canary"));

    let place = folder.path().join("a/staunch");
    assert_eq!(mode(&place), 0o700);
    let mut names: Vec<_> =
        fs::read_dir(&place).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["default.lock", "default.tokens.json"], "nothing is left beside");
    assert!(names.iter().all(|name| mode(&place.join(name)) == 0o600));
    assert!(store.remove_tokens(&profile, &lock).unwrap());
    assert!(!store.remove_tokens(&profile, &lock).unwrap());
}

#[tokio::test]
async fn a_reader_sees_the_old_file_or_the_new_one_and_never_a_part() {
    let (_folder, store) = store();
    let profile = Profile::default();
    let lock = store.lock(&profile).await.unwrap();
    let write = |n: usize| {
        let long = "x".repeat(n * 1_000 + 1);
        let tokens = Tokens { access: secret(&long), client_id: n.to_string(), ..Tokens::default() };
        store.keep_tokens(&profile, &tokens, &lock).unwrap();
    };
    write(0);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = 0;
            while seen < 20 {
                let tokens = store.tokens(&profile).unwrap().unwrap();
                let n: usize = tokens.client_id.parse().unwrap();
                assert_eq!(tokens.access.unwrap().expose().len(), n * 1_000 + 1);
                seen = seen.max(n);
            }
        });
        (1..=20).for_each(write);
        reader.join().unwrap();
    });
}

#[test]
fn a_folder_that_others_can_read_is_closed_and_such_a_token_file_refused() {
    let (folder, _) = store();
    let place = folder.path().join("a/staunch");
    fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
    let store = Store::at(place.clone()).unwrap();
    assert_eq!(mode(&place), 0o700);
    let file = place.join("default.tokens.json");
    fs::write(&file, "{}").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let fault = store.tokens(&Profile::default()).unwrap_err().to_string();
    assert!(fault.contains("chmod 600"), "{fault}");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&file, "{\"access\": \"at-canary\"").unwrap();
    let fault = store.tokens(&Profile::default()).unwrap_err().to_string();
    assert!(fault.contains("log in again") && !fault.contains("canary"), "{fault}");
}

#[tokio::test]
async fn one_process_at_a_time_changes_a_profile() {
    let (_folder, store) = store();
    let (one, other): (Profile, Profile) = ("one".parse().unwrap(), "other".parse().unwrap());
    let held = store.lock(&one).await.unwrap();
    store.lock(&other).await.unwrap();
    let second = tokio::time::timeout(Duration::from_millis(100), store.lock(&one));
    assert!(second.await.is_err(), "two hold the lock");
    drop(held);
    store.lock(&one).await.unwrap();
}

#[test]
fn what_is_left_of_a_token() {
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    let tokens =
        Tokens { access: secret("a"), access_expires: Some(1_000), id: secret("i"), ..Tokens::default() };
    let left = |now| tokens.left(TokenUse::Access, at(now)).unwrap();
    assert_eq!(left(400), Duration::from_secs(600));
    assert_eq!(left(940), REFRESH_BEFORE);
    assert!(left(941) < REFRESH_BEFORE);
    assert_eq!((left(1_000), left(2_000)), (Duration::ZERO, Duration::ZERO));
    assert_eq!(tokens.left(TokenUse::Id, at(0)), Some(Duration::MAX));
    assert_eq!(Tokens::default().left(TokenUse::Access, at(0)), None);
}

#[tokio::test]
async fn without_a_login_the_next_step_is_told() {
    let (_folder, store) = store();
    let fault = fresh_in(&store, &"ci".parse().unwrap(), None).await.unwrap_err();
    assert!(matches!(fault, Fault::LoggedOut { .. }));
    assert!(fault.to_string().ends_with("run `staunch login --profile ci`"), "{fault}");
    let fault = fresh_in(&store, &Profile::default(), None).await.unwrap_err().to_string();
    assert!(fault.ends_with("run `staunch login`"), "{fault}");
}

#[tokio::test]
async fn a_token_file_is_read_each_time_and_its_end_is_seen() {
    let (folder, store) = store();
    let profile = Profile::default();
    let path = folder.path().join("token");
    let lock = store.lock(&profile).await.unwrap();
    store.keep_settings(&profile, &Settings::TokenFile(path.clone()), &lock).unwrap();
    store.keep_tokens(&profile, &Tokens::default(), &lock).unwrap();
    let jwt = |exp: u64| {
        use base64::Engine as _;
        let claims = format!("{{\"exp\":{exp}}}");
        format!("e30.{}.c2ln\n", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims))
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let read = async || fresh_in(&store, &profile, None).await.map_err(|fault| fault.to_string());
    assert!(read().await.unwrap_err().contains("token file"));
    fs::write(&path, jwt(now + 30)).unwrap();
    assert_eq!(text(&read().await.unwrap().token), jwt(now + 30).trim_end());
    fs::write(&path, jwt(now - 1)).unwrap();
    assert!(read().await.unwrap_err().contains("expired"));
    fs::write(&path, "one token\nand more\n").unwrap();
    assert!(read().await.unwrap_err().contains("nothing else"));
    store.remove_tokens(&profile, &lock).unwrap();
    assert!(read().await.unwrap_err().contains("logged out"));
}

#[test]
fn a_token_can_be_awaited_on_any_thread() {
    fn sendable<T: Send>(_: T) {}
    sendable(super::fresh(&Profile::default()));
}

#[test]
fn profiles_are_plain_names() {
    for good in ["default", "ci", "a.b_c-1"] {
        assert_eq!(good.parse::<Profile>().unwrap().to_string(), good);
    }
    for bad in ["", ".", "..", ".hidden", "a/b", "../a", "-x", "a b", "ä", &"a".repeat(65)] {
        assert!(bad.parse::<Profile>().is_err(), "{bad}");
    }
}
