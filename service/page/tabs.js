// Tabs as https://www.w3.org/WAI/ARIA/apg/patterns/tabs/ has them: one stop of the Tab key, arrows between.

/** Let the tabs of the page choose; `shown(panel)` is called with the part that is shown. */
export function startTabs(shown) {
  const tabs = [...document.querySelectorAll('[role="tab"]')];
  const panelOf = (tab) => document.getElementById(tab.getAttribute("aria-controls"));

  function choose(tab, { focus }) {
    for (const one of tabs) {
      const isChosen = one === tab;
      one.setAttribute("aria-selected", String(isChosen));
      one.tabIndex = isChosen ? 0 : -1;
      panelOf(one).hidden = !isChosen;
    }
    if (focus) {
      tab.focus();
      history.replaceState(null, "", `#${panelOf(tab).id}`);
    }
    shown(panelOf(tab));
  }

  const steps = { ArrowRight: 1, ArrowLeft: -1 };
  tabs.forEach((tab, index) => {
    tab.addEventListener("click", () => choose(tab, { focus: true }));
    tab.addEventListener("keydown", (event) => {
      let next = null;
      if (event.key in steps) next = (index + steps[event.key] + tabs.length) % tabs.length;
      else if (event.key === "Home") next = 0;
      else if (event.key === "End") next = tabs.length - 1;
      if (next === null) return;
      event.preventDefault();
      choose(tabs[next], { focus: true });
    });
  });
  choose(tabs.find((tab) => `#${panelOf(tab).id}` === location.hash) ?? tabs[0], { focus: false });
}
