-- Files that a global variable keeps: the interpreter closes them when it ends. "fixed": the script does.
files = {}

local function keep()
  files[#files + 1] = assert(io.open("/dev/zero"))
end

for _ = 1, 20 do
  keep()
end
print(#files .. " files")
if arg[1] == "fixed" then
  for _, file in ipairs(files) do
    file:close()
  end
end
