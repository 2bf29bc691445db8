//! A folder as the system shows it, and what of it a power cut may leave.
//!
//! Invariant: what is promised is never chosen away, and nothing is there that was never written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::trace::{Call, Effect};
use crate::random::Random;

/// A file's content, by whatever names it has.
#[derive(Clone, Debug)]
struct Inode {
    content: Vec<u8>,
    /// As it was at the last synchronisation; none if there was none.
    kept: Option<Vec<u8>>,
    /// Of the last write.
    written: Moment,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Moment {
    thread: u32,
    ended: u64,
}

impl Moment {
    /// Whether a call that begins later covers this: it had ended before, or is of the same thread.
    const fn is_before(self, call: &Call) -> bool {
        self.thread == call.thread || self.ended <= call.began
    }
}

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Target {
    File(usize),
    Folder,
}

/// A change of one folder's entries, whole or not at all.
#[derive(Clone, Debug)]
struct EntryChange {
    folder: PathBuf,
    /// Which names stand for what from now on; none if they are gone.
    entries: Vec<(PathBuf, Option<Target>)>,
    when: Moment,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    inodes: Vec<Inode>,
    /// What is promised of the entries.
    kept: BTreeMap<PathBuf, Target>,
    /// What is not, in order.
    pending: Vec<EntryChange>,
    /// As the system shows it.
    shown: BTreeMap<PathBuf, Target>,
}

/// What is left of that which is not promised.
#[derive(Clone, Debug)]
pub struct Remains {
    /// Which changes of entries took place.
    entries: Vec<bool>,
    content: Content,
}

/// What is left of content that was not synchronised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Content {
    Lost,
    Half,
    Zeros,
    Whole,
}

impl Disk {
    /// A folder, of which everything is promised.
    pub fn of(folder: &Path) -> Self {
        let mut disk = Self::default();
        let mut open = vec![folder.to_owned()];
        while let Some(directory) = open.pop() {
            let Ok(entries) = std::fs::read_dir(&directory) else {
                continue;
            };
            for entry in entries {
                let path = entry.unwrap().path();
                let name = path.strip_prefix(folder).unwrap().to_owned();
                if path.is_dir() {
                    disk.kept.insert(name, Target::Folder);
                    open.push(path);
                    continue;
                }
                let content = std::fs::read(&path).unwrap();
                let inode = disk.add_inode(content.clone());
                disk.inodes[inode].kept = Some(content);
                disk.kept.insert(name, Target::File(inode));
            }
        }
        disk.shown.clone_from(&disk.kept);
        disk
    }

    fn add_inode(&mut self, content: Vec<u8>) -> usize {
        self.inodes.push(Inode {
            content,
            kept: None,
            written: Moment::default(),
        });
        self.inodes.len() - 1
    }

    /// A call was carried out.
    pub fn apply(&mut self, call: &Call) {
        let when = Moment {
            thread: call.thread,
            ended: call.ended,
        };
        match &call.effect {
            Effect::Create(path) => {
                if !self.shown.contains_key(path) {
                    let inode = self.add_inode(Vec::new());
                    self.change(vec![(path.clone(), Some(Target::File(inode)))], when);
                }
            }
            Effect::MakeFolder(path) => {
                self.change(vec![(path.clone(), Some(Target::Folder))], when);
            }
            Effect::Append(path, bytes) => {
                let change = |content: &mut Vec<u8>| content.extend_from_slice(bytes);
                self.write(path, call, change);
            }
            Effect::WriteAt(path, offset, bytes) => self.write(path, call, |content| {
                let offset = usize::try_from(*offset).unwrap();
                let end = offset + bytes.len();
                content.resize(content.len().max(end), 0);
                content[offset..end].copy_from_slice(bytes);
            }),
            Effect::SetLength(path, length) => self.write(path, call, |content| {
                content.resize(usize::try_from(*length).unwrap(), 0);
            }),
            Effect::Synchronise(path) => self.synchronise(path, call),
            Effect::Rename(from, to) => {
                assert_eq!(from.parent(), to.parent(), "{call}: into another folder");
                let target = self.shown[from];
                let entries = vec![(from.clone(), None), (to.clone(), Some(target))];
                self.change(entries, when);
            }
            Effect::Link(from, to) => {
                let target = self.shown[from];
                self.change(vec![(to.clone(), Some(target))], when);
            }
            Effect::Remove(path) => self.change(vec![(path.clone(), None)], when),
        }
    }

    fn write(&mut self, path: &Path, call: &Call, change: impl FnOnce(&mut Vec<u8>)) {
        let Some(Target::File(inode)) = self.shown.get(path) else {
            panic!("{call}: there is no such file");
        };
        let inode = &mut self.inodes[*inode];
        change(&mut inode.content);
        inode.written = Moment {
            thread: call.thread,
            ended: call.ended,
        };
    }

    fn change(&mut self, entries: Vec<(PathBuf, Option<Target>)>, when: Moment) {
        put(&mut self.shown, &entries);
        let folder = entries[0].0.parent().unwrap_or(Path::new("")).to_owned();
        self.pending.push(EntryChange {
            folder,
            entries,
            when,
        });
    }

    fn synchronise(&mut self, path: &Path, call: &Call) {
        if let Some(Target::File(inode)) = self.shown.get(path) {
            let inode = &mut self.inodes[*inode];
            if inode.written.is_before(call) {
                inode.kept = Some(inode.content.clone());
            }
            return;
        }
        let pending = std::mem::take(&mut self.pending);
        for change in pending {
            if change.folder == path && change.when.is_before(call) {
                put(&mut self.kept, &change.entries);
            } else {
                self.pending.push(change);
            }
        }
    }

    /// What a cut now may leave: the extremes, all but one, only one, and some by chance.
    pub fn choices(&self, random_each: usize, random: &mut Random) -> Vec<Remains> {
        let count = self.pending.len();
        let contents = if self.has_loose_content() {
            &[Content::Lost, Content::Half, Content::Zeros, Content::Whole][..]
        } else {
            &[Content::Whole]
        };
        let mut entries = vec![vec![false; count], vec![true; count]];
        // With many pending changes the newest are the interesting ones.
        for one in count.saturating_sub(4)..count {
            let only = |number: usize| number == one;
            entries.push((0..count).map(only).collect());
            entries.push((0..count).map(|number| !only(number)).collect());
        }
        if count > 1 {
            for _ in 0..random_each {
                entries.push((0..count).map(|_| random.chance(500)).collect());
            }
        }
        let with = |entries: Vec<bool>| {
            contents.iter().map(move |content| Remains {
                entries: entries.clone(),
                content: *content,
            })
        };
        entries.into_iter().flat_map(with).collect()
    }

    fn has_loose_content(&self) -> bool {
        let targets = self.shown.values();
        let mut files = targets.filter_map(|target| match target {
            Target::File(inode) => Some(&self.inodes[*inode]),
            Target::Folder => None,
        });
        files.any(|inode| inode.kept.as_ref() != Some(&inode.content))
    }

    /// What is there after a cut.
    pub fn after_cut(&self, remains: &Remains) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
        let mut entries = self.kept.clone();
        for (change, is_done) in self.pending.iter().zip(&remains.entries) {
            if *is_done {
                put(&mut entries, &change.entries);
            }
        }
        // What is in a folder that is not there is not there either.
        let is_reachable = |path: &Path| {
            let mut above = path.ancestors().skip(1);
            above.all(|above| above == Path::new("") || entries.contains_key(above))
        };
        let reachable = entries.iter().filter(|(path, _)| is_reachable(path));
        let left = |target: &Target| match target {
            Target::Folder => None,
            Target::File(inode) => Some(self.inodes[*inode].after_cut(remains.content)),
        };
        reachable
            .map(|(path, target)| (path.clone(), left(target)))
            .collect()
    }
}

impl Inode {
    fn after_cut(&self, content: Content) -> Vec<u8> {
        if self.kept.as_ref() == Some(&self.content) {
            return self.content.clone();
        }
        let promised = self.kept.clone().unwrap_or_default();
        let pairs = promised.iter().zip(&self.content);
        let same = pairs.take_while(|(kept, now)| kept == now).count();
        let (kept, loose) = self.content.split_at(same);
        match content {
            Content::Lost => promised,
            Content::Half => [kept, &loose[..loose.len() / 2]].concat(),
            Content::Zeros => [kept, &vec![0; loose.len()]].concat(),
            Content::Whole => self.content.clone(),
        }
    }
}

fn put(entries: &mut BTreeMap<PathBuf, Target>, changes: &[(PathBuf, Option<Target>)]) {
    for (path, target) in changes {
        match target {
            Some(target) => drop(entries.insert(path.clone(), *target)),
            None => drop(entries.remove(path)),
        }
    }
}

#[cfg(test)]
mod tests;
