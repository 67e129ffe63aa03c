//! Shown by 5: two mounts work in turn on the same names and files; each sees the other's last step
//! in its next call, also while the other keeps a file open with unflushed bytes in it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use cairn_cluster_tests::harness::{DevCluster, Seed, size};
use cairn_cluster_tests::oracle::driver;
use cairn_cluster_tests::oracle::model::{Content, Id, Model};
use rand::Rng;
use rand::rngs::StdRng;

/// Most files kept open at once.
const HANDLES: usize = 6;

/// A file kept open for writing on one mount.
struct Handle {
    mount: usize,
    id: Id,
    file: File,
}

#[test]
fn each_mount_sees_the_others_last_step() {
    let seed = Seed::new("two_mounts");
    let mut rng = seed.rng(0);
    let cluster = DevCluster::start();
    cluster.add_mount();
    let roots: Vec<PathBuf> = [1, 2].map(|number| cluster.mount(number).join("shared")).into();
    std::fs::create_dir(&roots[0]).expect("mkdir");
    let (mut model, mut handles): (Model, Vec<Handle>) = (Model::default(), Vec::new());
    let mut recent: Vec<String> = vec![String::new()];
    let (mut done, mut through_handles) = (0, 0);
    for number in 0..size("CAIRN_STEPS", 1_500) {
        let actor = number % 2;
        // First call after the other's step: what the other has changed.
        for path in &recent {
            driver::compare(&roots[actor], path, &model)
                .unwrap_or_else(|fault| panic!("step {number}: mount {} sees {fault}", actor + 1));
        }
        if rng.random_range(0..100) < 25 {
            if let Some(path) = use_handle(&mut handles, &mut model, &roots, actor, &mut rng) {
                recent = vec![path];
                through_handles += 1;
            }
            continue;
        }
        let step = model.random_step(&mut rng);
        let (found, expected) = (driver::run(&roots[actor], &step), model.apply(&step));
        assert_eq!(found, expected, "step {number} on mount {}: {step:?}", actor + 1);
        done += u32::from(found.is_ok());
        recent = Model::touched(&step);
    }
    for (mount, root) in roots.iter().enumerate() {
        for path in all_paths(&model) {
            driver::compare(root, &path, &model).unwrap_or_else(|f| panic!("at the end mount {} sees {f}", mount + 1));
        }
    }
    eprintln!("two_mounts: {done} steps did something, {through_handles} writes through kept handles");
    assert!(done > 100 && through_handles > 20);
}

/// Opens, writes through, checks or closes a kept file; answers a path to look at, if it has one.
fn use_handle(
    handles: &mut Vec<Handle>,
    model: &mut Model,
    roots: &[PathBuf],
    actor: usize,
    rng: &mut StdRng,
) -> Option<String> {
    if handles.len() > HANDLES || (handles.len() > 2 && rng.random_bool(0.1)) {
        handles.remove(rng.random_range(0..handles.len()));
    }
    let files: Vec<(String, Id)> = all_paths(model)
        .into_iter()
        .filter_map(|path| Some((path.clone(), model.lookup(&path).ok()?)))
        .filter(|(_, id)| matches!(model.inode(*id).content, Content::File(_)))
        .collect();
    if rng.random_bool(0.3) && !files.is_empty() {
        let (path, id) = &files[rng.random_range(0..files.len())];
        let file = File::options().read(true).write(true).open(roots[actor].join(path)).expect("open");
        handles.push(Handle { mount: actor, id: *id, file });
    }
    let mine: Vec<&Handle> = handles.iter().filter(|handle| handle.mount == actor).collect();
    let handle = mine.get(rng.random_range(0..mine.len().max(1)))?;
    driver::compare_handle(&handle.file, handle.id, model)
        .unwrap_or_else(|fault| panic!("mount {} sees through {fault}", actor + 1));
    let bytes = vec![rng.random(); rng.random_range(1..6_000)];
    let offset = rng.random_range(0..30_000);
    handle.file.write_all_at(&bytes, offset).expect("write through a kept handle");
    model.write_inode(handle.id, offset, &bytes);
    files.into_iter().find(|(_, id)| *id == handle.id).map(|(path, _)| path)
}

fn all_paths(model: &Model) -> Vec<String> {
    let mut paths = vec![String::new()];
    let mut next = 0;
    while next < paths.len() {
        let path = paths[next].clone();
        next += 1;
        if let Ok(id) = model.lookup(&path)
            && let Content::Directory(entries) = &model.inode(id).content
        {
            paths.extend(entries.keys().map(|name| format!("{path}/{name}").trim_start_matches('/').to_owned()));
        }
    }
    paths
}
