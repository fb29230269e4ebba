/** Hands a file to the browser's downloads under a name; letters that file systems refuse become "-". */
export function offerFile(name: string, content: Blob): void {
  const address = URL.createObjectURL(content);
  const link = document.createElement("a");
  link.href = address;
  link.download = name.replaceAll(/[\\/:*?"<>|\u0000-\u001f]/g, "-");
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
