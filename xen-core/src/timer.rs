//! stub
use crate::*;
use alloc::vec::Vec;
use spin::Mutex;
#[derive(Debug)]
/// s
pub struct TimerHandle(u32);
/// s
pub struct Timers<P>(Mutex<Vec<(u32,u32,Time,P)>>, core::sync::atomic::AtomicU32);
impl<P> Timers<P> {
 /// s
 pub fn new(_c:u32)->Self{Self(Mutex::new(Vec::new()),Default::default())}
 /// s
 pub fn allocate(&self)->Result<TimerHandle>{Ok(TimerHandle(self.1.fetch_add(1,core::sync::atomic::Ordering::SeqCst)))}
 /// s
 pub fn arm(&self,c:CpuId,h:&TimerHandle,t:Time,p:P){ self.cancel(h); self.0.lock().push((c.0,h.0,t,p)); }
 /// s
 pub fn cancel(&self,h:&TimerHandle){ self.0.lock().retain(|x|x.1!=h.0); }
 /// s
 pub fn expired(&self,c:CpuId,n:Time)->Option<P>{ let mut v=self.0.lock(); let i=v.iter().position(|x|x.0==c.0&&x.2<=n)?; Some(v.remove(i).3) }
 /// s
 pub fn next_deadline(&self,c:CpuId)->Option<Time>{ self.0.lock().iter().filter(|x|x.0==c.0).map(|x|x.2).min() }
}
