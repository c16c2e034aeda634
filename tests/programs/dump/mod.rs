//! mq-dump as a process, over directories that the storage has made: what it prints, what it says
//! about damage, and that it changes nothing unless it is told to.

mod bench;
mod command_line;
mod daemon;
mod damage;
mod export;
mod import;
mod list;
mod messages;
mod repair;
mod segment;
mod show;
mod terminal;
mod verify;
