"use strict";
// The trained models as pure functions: weights decoded, and run on one sequence. The mathematics is that of
// mechdistill/model; arrays are float32, and sums float64.

const mechdistillModel = (() => {
  /** Rows of whole numbers in two bytes each, all high bytes before all low ones, each row times its scale. */
  function unpacked(bytes, n, sizes, scales) {
    const out = new Float32Array(n);
    let i = 0, row = 0;
    for (const [, size] of sizes) {
      const width = size.at(-1);
      const end = i + count(size);
      while (i < end) {
        const scale = scales[row++];
        for (let j = 0; j < width; j++, i++) out[i] = (((bytes[i] << 8) | bytes[n + i]) << 16 >> 16) * scale;
      }
    }
    return out;
  }

  const count = (size) => size.reduce((a, b) => a * b, 1);
  const total = (sizes, of) => sizes.reduce((sum, [, size]) => sum + count(of(size)), 0);

  /** Views of an array by name, one after the other, as `sizes` [name, shape] says. */
  function share(numbers, sizes, named) {
    let offset = 0;
    for (const [name, size] of sizes) named[name] = numbers.subarray(offset, (offset += count(size)));
  }

  /** [rows, columns] -> [columns, rows]. */
  function transposed(x, rows, columns) {
    const out = new Float32Array(x.length);
    for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) out[j * rows + i] = x[i * columns + j];
    return out;
  }

  /** A checkpoint ready to run. `shape` is the model's config, resolved; every matrix comes to lie [out, in]. */
  function decode(bytes, shape) {
    const named = {};
    const n = total(shape.matrices, (size) => size), rows = total(shape.matrices, (size) => size.slice(0, -1));
    const floats = new Float32Array(bytes.slice(2 * n).buffer);
    share(unpacked(bytes, n, shape.matrices, floats), shape.matrices, named);
    share(floats.subarray(rows), shape.vectors, named);
    if (shape.kind === "bigram") return { shape, table: named.table };
    const { d_model: d, d_mlp: m } = shape;
    const wide = shape.n_heads * shape.d_head;
    const turned = (name, rows, columns) => (named[name] ? transposed(named[name], rows, columns) : null);
    const norm = (name) => ({ weight: named[`${name}.weight`] ?? null, bias: named[`${name}.bias`] ?? null });
    const layers = Array.from({ length: shape.n_layers }, (_, i) => {
      const at = `blocks.${i}`;
      return {
        ln1: norm(`${at}.ln1`),
        qkv: named[`${at}.attn.W_QKV`],
        qkvBias: named[`${at}.attn.b_QKV`] ?? null,
        out: turned(`${at}.attn.W_O`, wide, d),
        outBias: named[`${at}.attn.b_O`] ?? null,
        ln2: norm(`${at}.ln2`),
        up: turned(`${at}.mlp.W_in`, d, m),
        upBias: named[`${at}.mlp.b_in`] ?? null,
        gate: turned(`${at}.mlp.W_gate`, d, m),
        down: turned(`${at}.mlp.W_out`, m, d),
        downBias: named[`${at}.mlp.b_out`] ?? null,
        means: named["z_mean"].subarray(i * wide, (i + 1) * wide),
      };
    });
    return {
      shape,
      embed: named["W_E"],
      positions: named["W_pos"] ?? null,
      layers,
      final: norm("ln_final"),
      unembed: shape.tied ? named["W_E"] : transposed(named["W_U"], d, shape.vocab),
    };
  }

  /** x [n, wIn] times w [wOut, wIn], plus a bias. Four positions at a time share each weight that is read. */
  function linear(x, n, w, wIn, wOut, bias) {
    const y = new Float32Array(n * wOut);
    let p = 0;
    for (; p + 4 <= n; p += 4) {
      const a = p * wIn, b = a + wIn, c = b + wIn, e = c + wIn;
      for (let j = 0; j < wOut; j++) {
        const row = j * wIn;
        const start = bias === null ? 0 : bias[j];
        let s0 = start, s1 = start, s2 = start, s3 = start;
        for (let i = 0; i < wIn; i++) {
          const v = w[row + i];
          s0 += v * x[a + i];
          s1 += v * x[b + i];
          s2 += v * x[c + i];
          s3 += v * x[e + i];
        }
        const to = p * wOut + j;
        y[to] = s0;
        y[to + wOut] = s1;
        y[to + 2 * wOut] = s2;
        y[to + 3 * wOut] = s3;
      }
    }
    for (; p < n; p++) {
      for (let j = 0; j < wOut; j++) {
        let s = bias === null ? 0 : bias[j];
        for (let i = 0; i < wIn; i++) s += w[j * wIn + i] * x[p * wIn + i];
        y[p * wOut + j] = s;
      }
    }
    return y;
  }

  function normalised(x, n, d, kind, eps, { weight, bias }) {
    if (kind === "none") return x;
    const y = new Float32Array(x.length);
    for (let p = 0; p < n; p++) {
      const at = p * d;
      let mean = 0, square = 0;
      if (kind === "layernorm") {
        for (let i = 0; i < d; i++) mean += x[at + i];
        mean /= d;
      }
      for (let i = 0; i < d; i++) square += (x[at + i] - mean) ** 2;
      const scale = 1 / Math.sqrt(square / d + eps);
      for (let i = 0; i < d; i++) y[at + i] = (x[at + i] - mean) * scale * weight[i] + (bias === null ? 0 : bias[i]);
    }
    return y;
  }

  /** Abramowitz and Stegun 7.1.26: within 1.5e-7. */
  function erf(x) {
    const t = 1 / (1 + 0.3275911 * Math.abs(x));
    const tail = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
    return Math.sign(x) * (1 - tail * Math.exp(-x * x));
  }

  const ACTIVATIONS = {
    gelu: (x) => 0.5 * x * (1 + erf(x * Math.SQRT1_2)),
    relu: (x) => (x > 0 ? x : 0),
    swiglu: (x) => x / (1 + Math.exp(-x)),
  };

  /** Turns neighbouring pairs of the first `heads` heads, in place; rows of x are `stride` wide, from `first`. */
  function rotate(x, n, stride, first, heads, width) {
    for (let i = 0; i < width; i += 2) {
      const frequency = 10000 ** (-i / width);
      for (let p = 0; p < n; p++) {
        const cos = Math.cos(p * frequency), sin = Math.sin(p * frequency);
        for (let h = 0; h < heads; h++) {
          const at = p * stride + first + h * width + i;
          const a = x[at], b = x[at + 1];
          x[at] = a * cos - b * sin;
          x[at + 1] = b * cos + a * sin;
        }
      }
    }
  }

  /** One layer's heads: z [n, head, d_head], and each head's pattern [n, n]. */
  function attend(qkv, n, shape) {
    const { n_heads: heads, n_kv_heads: kvHeads, d_head: width } = shape;
    const stride = (heads + 2 * kvHeads) * width;
    if (shape.rotary) rotate(qkv, n, stride, 0, heads + kvHeads, width);
    const z = new Float32Array(n * heads * width);
    const patterns = [];
    const scale = 1 / Math.sqrt(width);
    const sum = new Float64Array(width);
    for (let h = 0; h < heads; h++) {
      const kv = Math.floor(h / (heads / kvHeads));
      const query = h * width, key = (heads + kv) * width, value = (heads + kvHeads + kv) * width;
      const pattern = new Float32Array(n * n);
      for (let q = 0; q < n; q++) {
        const row = q * n, from = q * stride + query;
        let top = -Infinity, total = 0;
        for (let s = 0; s <= q; s++) {
          const to = s * stride + key;
          let dot = 0;
          for (let i = 0; i < width; i++) dot += qkv[from + i] * qkv[to + i];
          pattern[row + s] = dot *= scale;
          if (dot > top) top = dot;
        }
        for (let s = 0; s <= q; s++) total += pattern[row + s] = Math.exp(pattern[row + s] - top);
        sum.fill(0);
        for (let s = 0; s <= q; s++) {
          const weight = (pattern[row + s] /= total);
          const at = s * stride + value;
          for (let i = 0; i < width; i++) sum[i] += weight * qkv[at + i];
        }
        z.set(sum, (q * heads + h) * width);
      }
      patterns.push(pattern);
    }
    return { z, patterns };
  }

  /** Heads of a layer that are off write zero, or their mean over held-out sequences. */
  function switchOff(z, n, layer, index, shape, off, mode) {
    const wide = shape.n_heads * shape.d_head;
    for (let h = 0; h < shape.n_heads; h++) {
      if (!off.has(`L${index}H${h}`)) continue;
      const first = h * shape.d_head;
      const instead = layer.means.subarray(first, first + shape.d_head);
      for (let p = 0; p < n; p++) {
        const at = p * wide + first;
        if (mode === "zero") z.fill(0, at, at + shape.d_head);
        else z.set(instead, at);
      }
    }
  }

  function add(x, y) {
    for (let i = 0; i < x.length; i++) x[i] += y[i];
  }

  /**
   * tokens [pos] -> {logits: [pos] of Float32Array(vocab), patterns: [layer][head] of Float32Array(pos * pos)}.
   * `off`: a Set of heads like "L1H0"; `mode`: "zero" or "mean". A bigram table has no patterns.
   */
  function forward(model, tokens, off = new Set(), mode = "mean") {
    const { shape } = model;
    const n = tokens.length, d = shape.d_model, { vocab } = shape;
    const rows = (flat) => Array.from({ length: n }, (_, p) => flat.subarray(p * vocab, (p + 1) * vocab));
    if (shape.kind === "bigram") {
      return { logits: tokens.map((t) => model.table.subarray(t * vocab, (t + 1) * vocab)), patterns: [] };
    }
    const x = new Float32Array(n * d);
    for (let p = 0; p < n; p++) {
      for (let i = 0; i < d; i++) {
        x[p * d + i] = model.embed[tokens[p] * d + i] + (model.positions === null ? 0 : model.positions[p * d + i]);
      }
    }
    const norm = (part) => normalised(x, n, d, shape.norm, shape.eps, part);
    const wide = shape.n_heads * shape.d_head;
    const patterns = model.layers.map((layer, index) => {
      const qkv = linear(norm(layer.ln1), n, layer.qkv, d, wide + 2 * shape.n_kv_heads * shape.d_head, layer.qkvBias);
      const heads = attend(qkv, n, shape);
      switchOff(heads.z, n, layer, index, shape, off, mode);
      add(x, linear(heads.z, n, layer.out, wide, d, layer.outBias));
      if (layer.up !== null) {
        const act = ACTIVATIONS[shape.act];
        const read = norm(layer.ln2);
        const pre = linear(read, n, layer.up, d, shape.d_mlp, layer.upBias);
        if (layer.gate === null) for (let i = 0; i < pre.length; i++) pre[i] = act(pre[i]);
        else {
          const gate = linear(read, n, layer.gate, d, shape.d_mlp, null);
          for (let i = 0; i < pre.length; i++) pre[i] *= act(gate[i]);
        }
        add(x, linear(pre, n, layer.down, shape.d_mlp, d, layer.downBias));
      }
      return heads.patterns;
    });
    return { logits: rows(linear(norm(model.final), n, model.unembed, d, vocab, null)), patterns };
  }

  /** Logits -> probabilities, float64. */
  function softmax(logits) {
    const out = Float64Array.from(logits);
    const top = out.reduce((a, b) => Math.max(a, b), -Infinity);
    let total = 0;
    for (let i = 0; i < out.length; i++) total += out[i] = Math.exp(out[i] - top);
    for (let i = 0; i < out.length; i++) out[i] /= total;
    return out;
  }

  return { decode, forward, softmax };
})();
