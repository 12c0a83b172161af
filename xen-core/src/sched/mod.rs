//! stub
use crate::*; use alloc::collections::VecDeque; use alloc::vec::Vec; use spin::Mutex;
/// s
pub trait Schedulable: Clone { /// s
 fn runnable(&self)->bool; }
/// s
#[derive(Clone,Copy,Debug,PartialEq,Eq)] pub struct Slot(pub u32);
/// s
#[derive(Clone,Copy,Debug,Default)] pub struct Params { /// s
 pub weight:u16, /// s
 pub cap:u16 }
/// s
#[derive(Clone,Copy,Debug,Default,PartialEq,Eq)] pub enum SchedulerKind { #[default] /// s
 Fair, /// s
 Null }
/// s
pub struct Choice<T>{ /// s
 pub next: Option<(Slot,T)>, /// s
 pub until: Time, /// s
 pub migrated: bool, /// s
 pub kick: Option<CpuId> }
/// s
pub trait Scheduler<T: Schedulable> {
 /// s
 fn insert(&self,item:T,p:Params,h:&CpuMask,s:&CpuMask,now:Time)->Result<Slot>;
 /// s
 fn remove(&self,slot:Slot,now:Time)->Result<T>;
 /// s
 fn update(&self,slot:Slot,now:Time)->Option<CpuId>;
 /// s
 fn yield_now(&self,slot:Slot,now:Time);
 /// s
 fn pick(&self,cpu:CpuId,now:Time)->Choice<T>;
 /// s
 fn dump(&self,_o:&mut dyn core::fmt::Write)->core::fmt::Result{Ok(())}
}
/// s
pub struct AnyScheduler<T>(Mutex<In<T>>);
struct In<T>{ units: Vec<Option<T>>, q: VecDeque<u32>, running: Vec<Option<u32>> }
impl<T: Schedulable> AnyScheduler<T>{ /// s
 pub fn new(_k:SchedulerKind,n:u32)->Self{ Self(Mutex::new(In{units:Vec::new(),q:VecDeque::new(),running:(0..n).map(|_|None).collect()})) } }
impl<T: Schedulable> Scheduler<T> for AnyScheduler<T> {
 fn insert(&self,item:T,_:Params,_:&CpuMask,_:&CpuMask,_:Time)->Result<Slot>{ let mut i=self.0.lock(); i.units.push(Some(item)); Ok(Slot(i.units.len() as u32-1)) }
 fn remove(&self,s:Slot,_:Time)->Result<T>{ let mut i=self.0.lock(); i.q.retain(|x|*x!=s.0); i.units[s.0 as usize].take().ok_or(Error::NoEnt) }
 fn update(&self,s:Slot,_:Time)->Option<CpuId>{ let mut i=self.0.lock(); let r=i.units[s.0 as usize].as_ref()?.runnable();
  if let Some(c)=i.running.iter().position(|x|*x==Some(s.0)) { return (!r).then_some(CpuId(c as u32)); }
  i.q.retain(|x|*x!=s.0); if r { i.q.push_back(s.0); let c=i.running.iter().position(|x|x.is_none()); return c.map(|c|CpuId(c as u32)); } None }
 fn yield_now(&self,_:Slot,_:Time){}
 fn pick(&self,c:CpuId,_:Time)->Choice<T>{ let mut i=self.0.lock(); if let Some(p)=i.running[c.0 as usize].take(){ if i.units[p as usize].as_ref().is_some_and(|u|u.runnable()) { i.q.push_back(p);} }
  let n=i.q.pop_front(); i.running[c.0 as usize]=n; Choice{ next: n.and_then(|n|Some((Slot(n),i.units[n as usize].clone()?))), until: Time::NEVER, migrated:false, kick:None } }
}
