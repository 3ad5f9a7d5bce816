//! The log on the disk: restart, epochs, forks.

use super::super::directory::Directory;
use super::super::writer::tests::CLOCK;
use super::keys::{epoch_name, origin, read_public};
use super::note::{Checkpoint, SignedCheckpoint, Signer};
use super::store::{Log, read_leaves};
use super::tree;
use super::tree::{Hash, consistency, root as root_of};
use super::verify::verify;
use super::witness::{AddCheckpoint, Refusal, Witness};
use std::path::Path;
use std::path::PathBuf;

fn open(root: &Path) -> (Directory, Log) {
    let directory = Directory::open(root).unwrap();
    let log = Log::open(&directory, CLOCK).unwrap();
    (directory, log)
}

fn grow(log: &mut Log, from: u64, to: u64) {
    for n in from..to {
        log.append(&format!("heartbeat number={n}")).unwrap();
    }
    log.checkpoint().unwrap();
}

fn copy(from: &Path, to: &Path) {
    super::super::files::make_folders(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        match path.is_dir() {
            true => copy(&path, &to.join(name)),
            false => drop(std::fs::copy(&path, to.join(name)).unwrap()),
        }
    }
}

fn faults(root: &Path) -> Vec<String> {
    verify(&Directory::read(root).unwrap(), |_, _| {}).faults.iter().map(ToString::to_string).collect()
}

#[test]
fn a_log_goes_on_after_every_restart_and_over_full_tiles() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("r");
    let mut size = 0;
    for step in [1, 2, 250, 1, 1, 1, 1, 600, 3] {
        let (directory, mut log) = open(&root);
        size = log.size();
        grow(&mut log, size, size + step);
        size += step;
        drop((directory, log));
        assert_eq!(faults(&root), Vec::<String>::new(), "{size}");
    }
    let mut lines = Vec::new();
    let verified = verify(&Directory::read(&root).unwrap(), |_, line| lines.push(line.to_owned()));
    assert_eq!((verified.entries, lines.len() as u64, verified.epochs), (size, size, 0));
    assert!(lines[0].starts_with("log gateway="));
    // Nothing but the newest partial tiles is kept beside full ones.
    let mut partial: Vec<PathBuf> = Vec::new();
    for level in ["0", "entries"] {
        for entry in std::fs::read_dir(root.join("log/tile").join(level)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                partial.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            }
        }
    }
    assert!(partial.len() <= 2, "{partial:?}");
}

#[test]
fn each_epoch_is_covered_by_its_own_key_and_the_key_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("r");
    let (_directory, mut log) = open(&root);
    let mut keys = Vec::new();
    for n in 0..4 {
        grow(&mut log, n, n + 3);
        keys.push(std::fs::read_to_string(root.join("log/epoch.key")).unwrap());
        log.change_epoch().unwrap();
        assert_eq!(faults(&root), Vec::<String>::new());
    }
    grow(&mut log, 9, 10);
    assert_eq!(verify(&Directory::read(&root).unwrap(), |_, _| {}).epochs, 4);
    let mut files = Vec::new();
    let mut folders = vec![root];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    for key in keys {
        let seed = key.trim().split_once(' ').unwrap().1.to_owned();
        let kept = files.iter().find(|file| {
            std::fs::read(file).unwrap().windows(seed.len()).any(|window| window == seed.as_bytes())
        });
        assert_eq!(kept, None);
    }
}

#[test]
fn a_change_of_epochs_that_was_cut_is_finished_or_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let (root, before) = (folder.path().join("r"), folder.path().join("before"));
    let (directory, mut log) = open(&root);
    grow(&mut log, 0, 3);
    copy(&root, &before);
    log.change_epoch().unwrap();
    drop((directory, log));
    let log_of = |root: &Path, name: &str| root.join("log").join(name);
    // Cut before the entry was signed: the new key was written and nothing else.
    std::fs::copy(log_of(&root, "epoch.key"), log_of(&before, "epoch.key.next")).unwrap();
    let (directory, mut log) = open(&before);
    assert!(!log_of(&before, "epoch.key.next").exists());
    grow(&mut log, 3, 5);
    log.change_epoch().unwrap();
    drop((directory, log));
    assert_eq!(faults(&before), Vec::<String>::new());
    // Cut after the entry was signed, before the old key was destroyed.
    std::fs::rename(log_of(&root, "epoch.key"), log_of(&root, "epoch.key.next")).unwrap();
    std::fs::write(log_of(&root, "epoch.key"), format!("1 {}\n", "11".repeat(32))).unwrap();
    std::fs::remove_dir_all(log_of(&root, "epochs")).unwrap();
    let (directory, mut log) = open(&root);
    grow(&mut log, 5, 6);
    drop((directory, log));
    assert_eq!(faults(&root), Vec::<String>::new());
}

#[test]
fn a_change_of_epochs_on_a_full_disk_is_named_once_and_nothing_comes_between() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("r");
    let (directory, mut log) = open(&root);
    grow(&mut log, 0, 3);
    // Each in turn cannot be written: the checkpoint, the last note of the epoch, the key itself.
    for (number, blocked) in ["checkpoint.new", "epochs/2.new", "epoch.key.next"].into_iter().enumerate() {
        let blocked = root.join("log").join(blocked);
        std::fs::create_dir_all(&blocked).unwrap();
        for _ in 0..3 {
            assert!(log.change_epoch().is_err(), "{blocked:?}");
        }
        let is_named = number < 2;
        assert_eq!(log.append("heartbeat number=1").is_err(), is_named, "{blocked:?}");
        std::fs::remove_dir(&blocked).unwrap();
        if is_named {
            log.append("heartbeat number=2").unwrap();
        } else {
            log.change_epoch().unwrap();
        }
        log.checkpoint().unwrap();
        assert_eq!(faults(&root), Vec::<String>::new());
    }
    drop((directory, log));
    let mut epochs = Vec::new();
    let verified = verify(&Directory::read(&root).unwrap(), |_, line| {
        epochs.extend(line.strip_prefix("epoch number=").and_then(|rest| rest[..1].parse::<u64>().ok()));
    });
    assert_eq!((epochs, verified.epochs), (vec![1, 2, 3, 4], 3));
    drop(open(&root));
    assert_eq!(faults(&root), Vec::<String>::new());
}

#[test]
fn a_log_that_was_changed_or_is_older_than_its_key_is_not_signed_any_further() {
    let folder = tempfile::tempdir().unwrap();
    let (root, older) = (folder.path().join("r"), folder.path().join("older"));
    let (directory, mut log) = open(&root);
    grow(&mut log, 0, 3);
    copy(&root.join("log"), &older);
    log.change_epoch().unwrap();
    grow(&mut log, 3, 5);
    drop((directory, log));
    let refuse = |change: &dyn Fn(&Path)| {
        let trial = tempfile::tempdir().unwrap();
        let copied = trial.path().join("r");
        copy(&root, &copied);
        change(&copied.join("log"));
        let directory = Directory::open(&copied).unwrap();
        Log::open(&directory, CLOCK).err().expect("refused").to_string()
    };
    let bundle = |log: &Path| log.join("tile/entries/000.p/8");
    let flipped = refuse(&|log| {
        let mut bytes = std::fs::read(bundle(log)).unwrap();
        bytes[20] ^= 1;
        std::fs::write(bundle(log), bytes).unwrap();
    });
    assert!(flipped.contains("checkpoint") && flipped.contains("was changed"), "{flipped}");
    let gone = refuse(&|log| std::fs::remove_file(log.join("checkpoint")).unwrap());
    assert!(gone.contains("is missing"), "{gone}");
    let foreign = refuse(&|log| {
        let text = std::fs::read_to_string(log.join("checkpoint")).unwrap();
        std::fs::write(log.join("checkpoint"), text.replace("\n8\n", "\n7\n")).unwrap();
    });
    assert!(foreign.contains("not signed by this gateway"), "{foreign}");
    let restored = refuse(&|log| {
        std::fs::copy(older.join("checkpoint"), log.join("checkpoint")).unwrap();
        copy(&older.join("tile"), &log.join("tile"));
    });
    assert!(restored.contains("older log"), "{restored}");
}

/// Who becomes root at one moment has all keys of then, and can sign nothing of an epoch that was over.
#[test]
fn the_root_drill() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("r");
    let (directory, mut log) = open(&root);
    grow(&mut log, 0, 5);
    log.change_epoch().unwrap();
    grow(&mut log, 5, 9);
    drop((directory, log));
    let stolen = folder.path().join("stolen");
    copy(&root.join("log"), &stolen);
    let gateway = Directory::read(&root).unwrap().gateway();
    let seed = |name: &str| {
        let text = std::fs::read_to_string(stolen.join(name)).unwrap();
        let (epoch, seed) = text.trim().split_once(' ').unwrap();
        (epoch.parse::<u64>().unwrap(), <[u8; 32]>::try_from(crate::recording::unhex(seed).unwrap()).unwrap())
    };
    let (log_key, (epoch, epoch_key)) = (seed("log.key").1, seed("epoch.key"));
    let log_key = Signer::new(origin(gateway), &log_key);
    let epoch_key = Signer::new(epoch_name(gateway, epoch), &epoch_key);
    // A log in which one entry of the first epoch says something else, with all hashes made anew.
    let forge = |change: &dyn Fn(&mut Vec<String>)| {
        let mut lines = Vec::new();
        verify(&Directory::read(&root).unwrap(), |_, line| lines.push(line.to_owned()));
        change(&mut lines);
        let mut edge = tree::Edge::default();
        let (mut bundle, mut hashes, mut at_epoch) = (Vec::new(), Vec::new(), None);
        for line in &lines {
            edge.push(tree::leaf(line.as_bytes()));
            hashes.extend(tree::leaf(line.as_bytes()));
            bundle.extend((line.len() as u16).to_be_bytes());
            bundle.extend(line.as_bytes());
            if line.starts_with("epoch number=2") {
                at_epoch = Some((edge.size(), edge.root()));
            }
        }
        let log = root.join("log");
        for level in ["0", "entries"] {
            std::fs::remove_dir_all(log.join("tile").join(level)).unwrap();
            std::fs::create_dir_all(log.join(format!("tile/{level}/000.p"))).unwrap();
        }
        let width = lines.len();
        std::fs::write(log.join(format!("tile/entries/000.p/{width}")), bundle).unwrap();
        std::fs::write(log.join(format!("tile/0/000.p/{width}")), hashes).unwrap();
        let sign = |(size, root), keys: &[&Signer]| {
            super::note::Checkpoint { origin: origin(gateway), size, root }.sign(keys)
        };
        let newest = sign((edge.size(), edge.root()), &[&log_key, &epoch_key]);
        std::fs::write(log.join("checkpoint"), newest).unwrap();
        (at_epoch.unwrap(), sign)
    };
    let lie = |lines: &mut Vec<String>| lines[3] = lines[3].replace("number=1", "number=7");
    let (end, sign) = forge(&lie);
    let found = faults(&root);
    assert!(
        found.iter().any(|fault| fault.contains("epochs/1") && fault.contains("not what the log says now")),
        "{found:?}"
    );
    // A newer epoch's key over older entries.
    std::fs::write(root.join("log/epochs/1"), sign(end, &[&log_key, &epoch_key])).unwrap();
    let found = faults(&root);
    assert!(
        found.iter().any(|fault| fault.contains("epochs/1") && fault.contains("may be forged")),
        "{found:?}"
    );
    // A first epoch's key of the thief's own is another gateway's identity.
    let own = Signer::new(epoch_name(gateway, 1), &[5; 32]);
    let mine = crate::recording::hex(own.verifier().key());
    let (end, sign) = forge(&|lines| {
        lie(lines);
        let (before, key) = lines[1].split_once("key=").unwrap();
        lines[1] = format!("{before}key={mine}{}", &key[64..]);
    });
    std::fs::write(root.join("log/epochs/1"), sign(end, &[&log_key, &own])).unwrap();
    let found = faults(&root);
    assert!(found.len() == 1 && found[0].contains("identity"), "{found:?}");
}

#[test]
fn a_witness_that_saw_a_log_refuses_its_fork() {
    let folder = tempfile::tempdir().unwrap();
    let (root, fork) = (folder.path().join("r"), folder.path().join("fork"));
    let (directory, mut log) = open(&root);
    grow(&mut log, 0, 5);
    copy(&root, &fork);
    let note = |root: &Path| {
        let text = std::fs::read_to_string(root.join("log/checkpoint")).unwrap();
        let note = SignedCheckpoint::parse(&text).unwrap();
        let leaves = read_leaves(&root.join("log"), note.checkpoint.size).unwrap();
        (note, leaves)
    };
    let request = |old, proof: &[Hash], note: &SignedCheckpoint| AddCheckpoint {
        old,
        proof: proof.to_vec(),
        note: note.clone(),
    };
    let mut witness = Witness::new(read_public(&root.join("log")).unwrap(), None);
    let (first, _) = note(&root);
    witness.check(&request(0, &[], &first)).unwrap();
    witness.remember(first.checkpoint);
    grow(&mut log, 5, 20);
    let (new, leaves) = note(&root);
    let proof = consistency(&leaves, 7);
    assert_eq!(witness.check(&request(5, &proof, &new)), Err(Refusal::Conflict(7)));
    assert_eq!(witness.check(&request(7, &[], &new)), Err(Refusal::Forked));
    assert_eq!(witness.check(&request(99, &proof, &new)), Err(Refusal::Older));
    witness.check(&request(7, &proof, &new)).unwrap();
    witness.remember(new.checkpoint);
    drop((directory, log));
    // The copy goes on by itself, with the same keys.
    let (_directory, mut log) = open(&fork);
    grow(&mut log, 100, 130);
    let (forked, leaves) = note(&fork);
    for old in 0..=forked.checkpoint.size {
        let proof = consistency(&leaves, old as usize);
        assert!(witness.check(&request(old, &proof, &forked)).is_err(), "{old}");
    }
    let key = Signer::new("x".into(), &[1; 32]);
    let stranger = Witness::new(key.verifier(), None);
    assert_eq!(stranger.check(&request(0, &[], &forked)), Err(Refusal::Unknown));
    let empty = |root| {
        SignedCheckpoint::parse(&Checkpoint { origin: "x".into(), size: 0, root }.sign(&[&key])).unwrap()
    };
    assert_eq!(stranger.check(&request(0, &[], &empty([0; 32]))), Err(Refusal::Forked));
    assert_eq!(stranger.check(&request(0, &[], &empty(root_of(&[])))), Ok(()));
}

#[test]
fn a_request_for_a_cosignature_is_read_as_the_specification_has_it() {
    let key = Signer::new("example.com/behind-the-sofa".into(), &[3; 32]);
    let note =
        Checkpoint { origin: "example.com/behind-the-sofa".into(), size: 9, root: [1; 32] }.sign(&[&key]);
    let body = AddCheckpoint::body(4, &[[2; 32], [3; 32]], &note);
    assert!(body.starts_with("old 4\nAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=\n"), "{body}");
    let read = AddCheckpoint::parse(&body).unwrap();
    assert_eq!((read.old, read.proof), (4, vec![[2; 32], [3; 32]]));
    assert_eq!(AddCheckpoint::parse(&AddCheckpoint::body(0, &[], &note)).unwrap().proof, Vec::<Hash>::new());
    let long = vec![[0; 32]; 64];
    for bad in [
        "",
        &note,
        &body.replacen("old 4", "old 04", 1),
        &body.replacen("old 4", "old -4", 1),
        &body.replacen("old 4", "new 4", 1),
        &body.replacen("AgI", "Ag", 1),
        &body.replacen("\n\n", "\n", 1),
        &AddCheckpoint::body(4, &long, &note),
    ] {
        assert!(AddCheckpoint::parse(bad).is_none(), "{bad}");
    }
}

#[test]
fn proofs_from_tiles_are_those_of_all_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let (_directory, mut log) = open(folder.path().join("r").as_path());
    let tiles = folder.path().join("r/log");
    for (from, to) in [(0, 40), (40, 254), (254, 270), (270, 700)] {
        grow(&mut log, from, to);
        let size = log.size();
        let leaves = read_leaves(&tiles, size).unwrap();
        for old in 0..=size {
            let proof = super::proof::consistency(&tiles, old, size).unwrap();
            assert_eq!(proof, consistency(&leaves, old as usize), "{old} {size}");
        }
    }
    std::fs::remove_file(tiles.join("tile/0/001")).unwrap();
    assert!(super::proof::consistency(&tiles, 300, log.size()).is_err());
}

#[test]
fn whoever_reads_while_the_gateway_signs_finds_every_tile() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("r");
    let (directory, mut log) = open(&root);
    grow(&mut log, 0, 3);
    let note = std::fs::read(root.join("log/checkpoint")).unwrap();
    // What was read a moment ago, while the edge has moved on: within its tile, and beyond it.
    for (from, to) in [(3, 200), (200, 300)] {
        grow(&mut log, from, to);
        let now = std::fs::read(root.join("log/checkpoint")).unwrap();
        std::fs::write(root.join("log/checkpoint"), &note).unwrap();
        assert_eq!(faults(&root), Vec::<String>::new());
        std::fs::write(root.join("log/checkpoint"), &now).unwrap();
    }
    drop(log);
    drop(directory);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (_directory, mut log) = open(&root);
            for n in 300..700 {
                grow(&mut log, n, n + 1);
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            assert_eq!(faults(&root), Vec::<String>::new());
        }
    });
}
