-- Ghost text from a nanotriton gateway for Neovim 0.7 and later; needs curl.
-- Copy it to ~/.config/nvim/plugin/. Tab accepts, Esc or going on typing dismisses.
-- NANOTRITON_URL and NANOTRITON_API_KEY say where and who; neither stands in a process list.

local URL = vim.env.NANOTRITON_URL or "http://localhost:8080"
local DEBOUNCE_MS, MAX_TOKENS, LINES_BEFORE, LINES_AFTER = 250, 64, 300, 100
-- A newer request with the same session ends the older one in the engine.
local SESSION = ("nvim-%d-%d"):format(vim.fn.getpid(), os.time())

local api, space = vim.api, vim.api.nvim_create_namespace("nanotriton")
local timer, job, shown = vim.loop.new_timer(), nil, nil

local function post(path, body, on_answer)
  local function quoted(text) return '"' .. text:gsub('[\\"]', "\\%0") .. '"' end
  local key = vim.env.NANOTRITON_API_KEY
  local config = {
    "url = " .. quoted(URL .. path),
    'header = "Content-Type: application/json"',
    key and "header = " .. quoted("Authorization: Bearer " .. key) or "",
    "data-binary = " .. quoted(vim.fn.json_encode(body)) .. "\n",
  }
  local id = vim.fn.jobstart({ "curl", "--silent", "--max-time", "20", "--config", "-" }, {
    stdout_buffered = true,
    on_stdout = function(from, lines)
      local is_json, answer = pcall(vim.fn.json_decode, table.concat(lines, "\n"))
      if on_answer and is_json and type(answer) == "table" then on_answer(answer, from) end
    end,
  })
  vim.fn.chansend(id, table.concat(config, "\n"))
  vim.fn.chanclose(id, "stdin")
  return id
end

local function tell(kind) post("/v1/events", { events = { { id = shown.id, kind = kind } } }) end

local function clear()
  if shown then
    api.nvim_buf_clear_namespace(shown.buffer, space, 0, -1)
    shown = nil
  end
end

local function cancel()
  timer:stop()
  if job then
    vim.fn.jobstop(job)
    job = nil
  end
  if shown then
    tell("dismissed")
    clear()
  end
end

local function show(buffer, row, column, id, text)
  local lines = vim.split(text, "\n", { plain = true })
  local virtual = vim.tbl_map(function(line) return { { line, "Comment" } } end, lines)
  local first = table.remove(virtual, 1)
  api.nvim_buf_set_extmark(buffer, space, row, column, {
    virt_text = first,
    virt_text_pos = vim.fn.has("nvim-0.10") == 1 and "inline" or "overlay",
    virt_lines = #virtual > 0 and virtual or nil,
  })
  shown = { buffer = buffer, row = row, column = column, id = id, lines = lines }
  tell("shown")
end

local function ask()
  local buffer, tick = api.nvim_get_current_buf(), vim.b.changedtick
  local row, column = unpack(api.nvim_win_get_cursor(0))
  row = row - 1
  local first = math.max(0, row - LINES_BEFORE)
  local last = math.min(api.nvim_buf_line_count(buffer) - 1, row + LINES_AFTER)
  local width = #api.nvim_buf_get_lines(buffer, last, last + 1, true)[1]
  local before = table.concat(api.nvim_buf_get_text(buffer, first, 0, row, column, {}), "\n")
  local after = table.concat(api.nvim_buf_get_text(buffer, row, column, last, width, {}), "\n")
  if before:match("^%s*$") then return end
  local body = { prompt = before, max_tokens = MAX_TOKENS, temperature = 0, stop_at = "block" }
  body.suffix, body.session, body.truncate = after ~= "" and after or nil, SESSION, "left"
  job = post("/v1/completions", body, function(answer, from)
    if from ~= job or vim.fn.mode() ~= "i" or vim.b.changedtick ~= tick then return end
    job = nil
    if answer.error and answer.error.type ~= "superseded" then
      vim.notify_once("nanotriton: " .. answer.error.message, vim.log.levels.WARN)
    elseif answer.choices then
      local text = answer.choices[1].text:gsub("%s+$", "")
      if text ~= "" then show(buffer, row, column, answer.id, text) end
    end
  end)
end

local function accept()
  local row, column, lines = shown.row, shown.column, shown.lines
  tell("accepted")
  clear()
  api.nvim_buf_set_text(0, row, column, row, column, lines)
  api.nvim_win_set_cursor(0, { row + #lines, #lines == 1 and column + #lines[1] or #lines[#lines] })
end

vim.keymap.set("i", "<Tab>", function()
  if not shown then return "<Tab>" end
  vim.schedule(accept)
  return ""
end, { expr = true, desc = "accept nanotriton's ghost text" })
api.nvim_create_autocmd("TextChangedI", {
  callback = function()
    cancel()
    timer:start(DEBOUNCE_MS, 0, vim.schedule_wrap(ask))
  end,
})
api.nvim_create_autocmd("CursorMovedI", {
  callback = function()
    local row, column = unpack(api.nvim_win_get_cursor(0))
    if shown and (row - 1 ~= shown.row or column ~= shown.column) then
      cancel()
    end
  end,
})
api.nvim_create_autocmd({ "InsertLeave", "BufLeave" }, { callback = cancel })
