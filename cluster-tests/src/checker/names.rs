//! The names of the tree, and the mode and links of files: what POSIX says a call does.
//!
//! An inode made by a call without an answer has no number that is known; it gets the one that is
//! first seen for it.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{Call, Inode, Operation, Reply};
use super::search::Model;

/// Mode of files as they are made.
const FILE_MODE: u32 = 0o644;
/// The root directory.
pub const ROOT: Inode = 1;
/// Numbers from here on stand for inodes whose number is not known.
const UNKNOWN: Inode = 1 << 60;

/// The tree.
pub(super) struct Names;

/// The state of the tree.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tree {
    nodes: BTreeMap<Inode, Node>,
    next_unknown: Inode,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Node {
    Directory(BTreeMap<String, Inode>),
    File { mode: u32, links: u32 },
}

type Next = Option<Tree>;

impl Default for Tree {
    fn default() -> Self {
        Self { nodes: BTreeMap::from([(ROOT, Node::Directory(BTreeMap::new()))]), next_unknown: UNKNOWN }
    }
}

impl Tree {
    fn entries(&self, directory: Inode) -> Option<&BTreeMap<String, Inode>> {
        match self.nodes.get(&directory)? {
            Node::Directory(entries) => Some(entries),
            Node::File { .. } => None,
        }
    }

    fn set(&mut self, directory: Inode, name: &str, inode: Option<Inode>) {
        if let Some(Node::Directory(entries)) = self.nodes.get_mut(&directory) {
            match inode {
                Some(inode) => entries.insert(name.to_owned(), inode),
                None => entries.remove(name),
            };
        }
    }

    fn is_directory(&self, inode: Inode) -> bool {
        matches!(self.nodes.get(&inode), Some(Node::Directory(_)))
    }

    /// One link less; a file without names is forgotten.
    fn unlink(&mut self, inode: Inode) {
        if let Some(Node::File { links, .. }) = self.nodes.get_mut(&inode) {
            *links -= 1;
            if *links == 0 {
                self.nodes.remove(&inode);
            }
        }
    }

    fn within(&self, inode: Inode, ancestor: Inode) -> bool {
        if inode == ancestor {
            return true;
        }
        self.entries(ancestor).is_some_and(|entries| {
            entries.values().any(|child| self.is_directory(*child) && self.within(inode, *child))
        })
    }

    /// The inode that stands there has this number: true, or made true.
    fn identify(&mut self, stands: Inode, number: Inode) -> bool {
        if stands == number {
            return true;
        }
        if stands < UNKNOWN || self.nodes.contains_key(&number) {
            return false;
        }
        if let Some(node) = self.nodes.remove(&stands) {
            self.nodes.insert(number, node);
        }
        for node in self.nodes.values_mut() {
            if let Node::Directory(entries) = node {
                entries.values_mut().filter(|entry| **entry == stands).for_each(|entry| *entry = number);
            }
        }
        true
    }

    fn make(&self, directory: Inode, name: &str, node: Node, number: Option<Inode>) -> Next {
        let mut next = self.clone();
        let number = number.unwrap_or_else(|| {
            next.next_unknown += 1;
            next.next_unknown
        });
        if next.nodes.contains_key(&number) {
            return None;
        }
        next.nodes.insert(number, node);
        next.set(directory, name, Some(number));
        Some(next)
    }

    fn create(&self, directory: Inode, name: &str, exclusive: bool, number: Option<Inode>) -> Next {
        match self.entries(directory)?.get(name) {
            None => self.make(directory, name, Node::File { mode: FILE_MODE, links: 1 }, number),
            Some(found) if !exclusive && !self.is_directory(*found) => {
                let mut next = self.clone();
                number.is_none_or(|number| next.identify(*found, number)).then_some(next)
            }
            Some(_) => None,
        }
    }

    fn make_directory(&self, directory: Inode, name: &str, number: Option<Inode>) -> Next {
        match self.entries(directory)?.get(name) {
            None => self.make(directory, name, Node::Directory(BTreeMap::new()), number),
            Some(_) => None,
        }
    }

    fn remove_name(&self, directory: Inode, name: &str) -> Next {
        let inode = *self.entries(directory)?.get(name)?;
        if self.is_directory(inode) {
            return None;
        }
        let mut next = self.clone();
        next.set(directory, name, None);
        next.unlink(inode);
        Some(next)
    }

    fn remove_directory(&self, directory: Inode, name: &str) -> Next {
        let inode = *self.entries(directory)?.get(name)?;
        if !self.entries(inode)?.is_empty() {
            return None;
        }
        let mut next = self.clone();
        next.set(directory, name, None);
        next.nodes.remove(&inode);
        Some(next)
    }

    fn rename(&self, from: &(Inode, String), to: &(Inode, String)) -> Next {
        let inode = *self.entries(from.0)?.get(&from.1)?;
        let target = self.entries(to.0)?.get(&to.1).copied();
        if target == Some(inode) {
            return Some(self.clone());
        }
        if self.is_directory(inode) && self.within(to.0, inode) {
            return None;
        }
        let mut next = self.clone();
        match target {
            None => {}
            Some(target) if self.is_directory(target) => {
                if !self.is_directory(inode) || !self.entries(target)?.is_empty() {
                    return None;
                }
                next.nodes.remove(&target);
            }
            Some(_) if self.is_directory(inode) => return None,
            Some(target) => next.unlink(target),
        }
        next.set(from.0, &from.1, None);
        next.set(to.0, &to.1, Some(inode));
        Some(next)
    }

    fn link(&self, inode: Inode, directory: Inode, name: &str) -> Next {
        if self.entries(directory)?.contains_key(name) {
            return None;
        }
        let mut next = self.clone();
        let Some(Node::File { links, .. }) = next.nodes.get_mut(&inode) else { return None };
        *links += 1;
        next.set(directory, name, Some(inode));
        Some(next)
    }

    fn change_mode(&self, inode: Inode, new: u32) -> Next {
        let mut next = self.clone();
        let Some(Node::File { mode, .. }) = next.nodes.get_mut(&inode) else { return None };
        *mode = new;
        Some(next)
    }

    /// What a change makes of the tree; None if it is refused.
    fn change(&self, call: &Call, number: Option<Inode>) -> Next {
        match call {
            Call::Create { directory, name, exclusive } => self.create(*directory, name, *exclusive, number),
            Call::MakeDirectory { directory, name } => self.make_directory(*directory, name, number),
            Call::Unlink { directory, name } => self.remove_name(*directory, name),
            Call::RemoveDirectory { directory, name } => self.remove_directory(*directory, name),
            Call::Rename { from, to } => self.rename(from, to),
            Call::Link { inode, directory, name } => self.link(*inode, *directory, name),
            Call::ChangeMode { inode, mode } => self.change_mode(*inode, *mode),
            _ => None,
        }
    }

    fn lookup(&self, directory: Inode, name: &str, number: Inode) -> Next {
        let found = *self.entries(directory)?.get(name)?;
        let mut next = self.clone();
        next.identify(found, number).then_some(next)
    }

    fn list(&self, directory: Inode, found: &BTreeSet<(String, Inode)>) -> Next {
        let entries = self.entries(directory)?;
        if entries.len() != found.len() {
            return None;
        }
        let mut next = self.clone();
        for (name, number) in found {
            let stands = *entries.get(name)?;
            if !next.identify(stands, *number) {
                return None;
            }
        }
        Some(next)
    }

    /// The old name was the same file as the new one before it went.
    fn was_same(&self, from: &(Inode, String), to: &(Inode, String)) -> bool {
        let has = |(directory, name): &(Inode, String)| {
            self.entries(*directory).is_some_and(|entries| entries.contains_key(name))
        };
        !has(from) && has(to)
    }
}

impl Model for Names {
    type State = Tree;

    fn step(&self, state: &Tree, event: &Operation) -> Vec<Tree> {
        let same = |right: bool| if right { Some(state.clone()) } else { None };
        let next = match (&event.call, &event.reply) {
            (Call::Lookup { directory, name }, Reply::Node(number)) => state.lookup(*directory, name, *number),
            (Call::Lookup { directory, name }, Reply::Refused(_)) => {
                same(state.entries(*directory).is_none_or(|entries| !entries.contains_key(name)))
            }
            (Call::List { directory }, Reply::Entries(found)) => state.list(*directory, found),
            (Call::List { directory }, Reply::Refused(_)) => same(state.entries(*directory).is_none()),
            (Call::Stat { inode }, Reply::Attributes(mode, links)) => match state.nodes.get(inode) {
                Some(Node::File { mode: known, links: count }) => same(known == mode && count == links),
                Some(Node::Directory(_)) => None,
                // Without a name it may be kept by somebody who has it open.
                None => same(*links == 0),
            },
            (Call::Stat { inode }, Reply::Refused(_)) => same(!state.nodes.contains_key(inode)),
            // Of a file without names nothing is kept here.
            (Call::ChangeMode { inode, .. }, _) if !state.nodes.contains_key(inode) => same(true),
            (call, Reply::Refused(_)) => same(state.change(call, None).is_none()),
            (Call::Rename { from, to }, Reply::DoneOrSame) if state.was_same(from, to) => same(true),
            (call, Reply::Node(number)) => state.change(call, Some(*number)),
            (call, _) => state.change(call, None),
        };
        next.into_iter().collect()
    }
}
