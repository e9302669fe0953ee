"""Stopgap."""
from __future__ import annotations
import json
from dataclasses import dataclass, field
from pathlib import Path
import msgspec, fhirpathpy
from fhirpathpy.models import models

@dataclass
class Column:
    name: str; type: str|None; collection: bool; tags: dict; path: str
@dataclass
class Failure:
    index: int; json_path: str; reason: str; code: str
@dataclass
class RunResult:
    columns: dict = field(default_factory=dict); row_resource: list = field(default_factory=list); failures: list = field(default_factory=list)

def _key(inp, *a):
    return [f"{x['resourceType']}/{x['id']}" for x in [getattr(i,'data',i) for i in inp]]
def _refkey(inp, *a):
    out=[]
    for i in inp:
        d=getattr(i,'data',i); ref=d.get('reference') if isinstance(d,dict) else None
        if not ref or ref.startswith(('#','urn:')): continue
        ref=ref.split('/_history/')[0]; parts=ref.split('/'); 
        if len(parts)>=2:
            t=parts[-2]
            if a and a[0]:
                want=a[0] if isinstance(a[0],str) else str(a[0])
                if want!=t: continue
            out.append('/'.join(parts[-2:]))
    return out
TABLE={"getResourceKey":{"fn":_key,"arity":{0:[]},"nullable":False},"getReferenceKey":{"fn":_refkey,"arity":{0:[],1:["TypeSpecifier"]},"nullable":False}}
M=models["r4"]
class CompiledView:
    def __init__(self, d):
        self.raw=d; self.name=d["name"]; self.resource=d["resource"]; self.cache={}
        self.const={}
        for c in d.get("constant",[]):
            self.const[c["name"]]=[v for k,v in c.items() if k.startswith("value")][0]
        self.columns=[]
        self._cols(d["select"])
    def _cols(self, sel):
        for s in sel:
            for c in s.get("column",[]):
                self.columns.append(Column(c["name"],c.get("type"),c.get("collection",False),{t["name"]:t["value"] for t in c.get("tag",[])},c["path"]))
            self._cols(s.get("select",[]))
            if s.get("unionAll"): self._cols(s["unionAll"][:1])
    def ev(self, node, path, env=None):
        f=self.cache.get(path)
        if f is None:
            f=self.cache[path]=fhirpathpy.compile(__import__('re').sub(r'\b(\w+)\.ofType\((\w)(\w*)\)', lambda m: m[0] if m[1]=='contained' else m[1]+m[2].upper()+m[3], path), None, {"userInvocationTable":TABLE})
        base=node
        return f(base, dict(self.const)|(env or {}))
    def rows(self, node, sel):
        nodes=[node]
        if "forEach" in sel: nodes=self.ev(node, sel["forEach"])
        elif "forEachOrNull" in sel: nodes=self.ev(node, sel["forEachOrNull"]) or [None]
        out=[]
        for n in nodes:
            parts=[[{}]]
            row={}
            for c in sel.get("column",[]):
                v=[] if n is None else self.ev(n,c["path"])
                row[c["name"]]= v if c.get("collection") else (v[0] if v else None)
            acc=[row]
            for s in sel.get("select",[]):
                sub=self.rows(n,s) if n is not None else [{}]
                acc=[a|b for a in acc for b in sub]
            if sel.get("unionAll"):
                sub=[r for s in sel["unionAll"] for r in (self.rows(n,s) if n is not None else [])]
                acc=[a|b for a in acc for b in sub]
            out+=acc
        return out
    def run(self, resources):
        res=RunResult(columns={c.name:[] for c in self.columns})
        for i,b in enumerate(resources):
            try: r=json.loads(b)
            except ValueError:
                res.failures.append(Failure(i,"$","not JSON","json")); continue
            if r.get("resourceType")!=self.resource: continue
            try:
                ok=all(self.ev(r,w["path"])==[True] for w in self.raw.get("where",[]))
                if not ok: continue
                rows=self.rows(r,{"select":self.raw["select"]})
            except Exception as e:
                res.failures.append(Failure(i,"$",type(e).__name__,"shape")); continue
            for row in rows:
                for c in self.columns: res.columns[c.name].append(row.get(c.name))
                res.row_resource.append(i)
        return res
def load_view(p,*,release="R4"):
    d=p if isinstance(p,dict) else json.loads(Path(p).read_text())
    return CompiledView(d)
