//! `staunch login`, `token` and `logout` of a program, with the demo's issuer: no part from elsewhere.

use staunch::client::login::{self, Arguments, MethodFlags};
use staunch::client::store::Store;
use staunch::client::token::fresh_in;
use staunch::client::{Fault, Profile};
use staunch::demo::ca::{Ca, Folder};
use staunch::demo::issuer::{Issuer, User};
use std::process::{Command, Output};

struct Place {
    folder: Folder,
    issuer: Issuer,
    ca: std::path::PathBuf,
}

impl Place {
    fn new() -> Place {
        let (folder, ca) = (Folder::new().unwrap(), Ca::new("authority").unwrap());
        let ann = User { subject: "ann".into(), groups: vec!["agents".into()] };
        let issuer = Issuer::start(ca.leaf(&["127.0.0.1"]).unwrap(), "staunch", vec![ann]).unwrap();
        let path = folder.write("ca.pem", ca.pem()).unwrap();
        folder.write("secret", &format!("{}\n", issuer.client().secret)).unwrap();
        Place { folder, issuer, ca: path }
    }

    fn arguments(&self) -> Arguments {
        Arguments {
            issuer: Some(self.issuer.url().into()),
            client_id: Some(self.issuer.client().id.clone()),
            client_secret: Some(format!("file:{}", self.folder.path().join("secret").display())),
            ca: Some(self.ca.clone()),
            method_flags: MethodFlags { client_credentials: true, ..MethodFlags::default() },
            ..Arguments::default()
        }
    }

    /// The program, with a home of its own.
    fn staunch(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_staunch"));
        command.args(arguments).env_clear().env("HOME", self.folder.path()).output().unwrap()
    }
}

#[tokio::test]
async fn a_program_logs_in_once_and_has_a_token_from_then_on() {
    let place = Place::new();
    let store = Store::at(place.folder.path().join("state")).unwrap();
    login::run_in(&store, place.arguments()).await.unwrap();
    let first = fresh_in(&store, &Profile::default(), None).await.unwrap();
    assert!(first.warning.is_none() && first.expires.is_some());
    let second = fresh_in(&store, &Profile::default(), None).await.unwrap();
    assert_eq!(first.token.expose(), second.token.expose(), "a good token is kept");
    // The next login needs nothing but the profile.
    login::run_in(&store, Arguments::default()).await.unwrap();
    let third = fresh_in(&store, &Profile::default(), None).await.unwrap();
    assert_ne!(third.token.expose(), first.token.expose());
}

#[tokio::test]
async fn an_issuer_that_calls_itself_otherwise_is_refused() {
    let place = Place::new();
    let store = Store::at(place.folder.path().join("state")).unwrap();
    let arguments = Arguments { issuer: Some(format!("{}/", place.issuer.url())), ..place.arguments() };
    let fault = login::run_in(&store, arguments).await.unwrap_err();
    assert!(matches!(fault, Fault::Issuer { .. }));
    assert!(fault.to_string().contains(&format!("is for {:?}", place.issuer.url())), "{fault}");
}

#[test]
fn the_commands_print_the_token_alone_and_say_what_to_do_without_one() {
    let place = Place::new();
    let none = place.staunch(&["token"]);
    assert_eq!((none.status.code(), none.stdout.len()), (Some(1), 0));
    assert!(String::from_utf8(none.stderr).unwrap().ends_with("run `staunch login`\n"));

    let secret = format!("file:{}", place.folder.path().join("secret").display());
    let login = [
        "login",
        "--client-credentials",
        "--client-id",
        "demo",
        "--client-secret",
        &secret,
        "--issuer",
        place.issuer.url(),
        "--ca",
        place.ca.to_str().unwrap(),
    ];
    let login = place.staunch(&login);
    let told = String::from_utf8(login.stderr).unwrap();
    assert!(
        login.status.success() && login.stdout.is_empty() && told.starts_with("Logged in as demo"),
        "{told}"
    );
    let token = place.staunch(&["token"]);
    let text = String::from_utf8(token.stdout).unwrap();
    assert!(token.stderr.is_empty() && text.starts_with("eyJ") && text.ends_with('\n'), "{text:?}");
    assert_eq!(text.lines().count(), 1);
    assert!(!told.contains(text.trim()) && !told.contains(&place.issuer.client().secret));

    // This issuer revokes nothing, and that is said.
    let logout = place.staunch(&["logout"]);
    assert!(
        logout.status.success()
            && String::from_utf8(logout.stderr).unwrap().contains("revokes no such tokens")
    );
    assert_eq!(place.staunch(&["token"]).status.code(), Some(1));
    assert_eq!(place.staunch(&["login", "--device", "--browser"]).status.code(), Some(2));
}
